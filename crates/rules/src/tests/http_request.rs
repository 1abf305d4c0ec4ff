use super::{HttpRequest, is_token};
use crate::json;
use crate::request::exclude::Exclusions;
use crate::request::fingerprint::{Fingerprint, HTTP_V1};
use proptest::prelude::*;

const JSON: Option<&str> = Some("application/json");
const FORM: Option<&str> = Some("application/x-www-form-urlencoded");

fn of(method: &str, target: &str, content_type: Option<&str>, body: &[u8]) -> Fingerprint {
    excluding(&Exclusions::default(), method, target, content_type, body)
}

fn excluding(
    exclude: &Exclusions,
    method: &str,
    target: &str,
    content_type: Option<&str>,
    body: &[u8],
) -> Fingerprint {
    let request = HttpRequest::new(
        Some(method.as_bytes()),
        Some(target.as_bytes()),
        content_type.map(str::as_bytes),
        body,
    );
    request.unwrap().fingerprint(exclude, 0)
}

fn body(content_type: Option<&str>, body: &str) -> Fingerprint {
    of("POST", "/pay", content_type, body.as_bytes())
}

#[test]
fn method_target_media_type_and_body_count() {
    let all = [
        of("POST", "/pay", JSON, b"{}"),
        of("PATCH", "/pay", JSON, b"{}"),
        of("post", "/pay", JSON, b"{}"),
        of("POST", "/pay/", JSON, b"{}"),
        of("POST", "/pay?a=1", JSON, b"{}"),
        of("POST", "/pay", Some("application/vnd.pay+json"), b"{}"),
        of("POST", "/pay", Some("text/plain"), b"{}"),
        of("POST", "/pay", None, b"{}"),
        of("POST", "/pay", None, b""),
        of("POST", "/pay", JSON, b""),
        of("POST", "/pay", JSON, b"[]"),
        of("POST", "/pay", FORM, b"{}"),
        of("POS", "T/pay", JSON, b"{}"),
    ];
    for (at, one) in all.iter().enumerate() {
        assert_eq!(one.version, HTTP_V1);
        for other in &all[at + 1..] {
            assert_ne!(one, other);
        }
    }
}

#[test]
fn parameters_and_case_of_the_media_type_do_not_count() {
    for same in
        ["application/json; charset=utf-8", " Application/JSON ;charset=utf-8", "application/json;"]
    {
        assert_eq!(body(Some(same), r#"{"a": 1}"#), body(JSON, r#"{"a":1}"#), "{same}");
    }
}

#[test]
fn json_counts_by_value() {
    for media in ["application/json", "application/problem+json"] {
        let media = Some(media);
        assert_eq!(
            body(media, r#"{"b":[1.0,"\u00e9"],"a":1e2}"#),
            body(media, "{\"a\":100, \"b\":[1,\"é\"]}")
        );
        assert_eq!(body(media, r#"{"a":1,"a":2}"#), body(media, r#"{"a":2}"#));
        assert_ne!(body(media, r#"{"a":1}"#), body(media, r#"{"a":"1"}"#));
    }
    assert_ne!(body(Some("text/plain"), r#"{"a":1}"#), body(Some("text/plain"), r#"{"a": 1}"#));
}

#[test]
fn what_jsonb_refuses_counts_by_its_bytes() {
    for refused in [r#"{"a":"\u0000"}"#, r#"{"a":"\ud800"}"#, r#"{"a":NaN}"#, r#"{"a":}"#, ""] {
        assert_eq!(body(JSON, refused), body(JSON, refused), "{refused}");
        assert_ne!(body(JSON, refused), body(JSON, &format!("{refused} ")), "{refused}");
    }
    let deep = "[".repeat(100_000);
    assert_ne!(body(JSON, &deep), body(JSON, &format!("{deep} ")));
    assert_ne!(of("POST", "/", JSON, b"\"\xff\""), of("POST", "/", JSON, b"\"\xfe\""));
}

#[test]
fn bytes_are_never_taken_for_a_value() {
    let value = of("POST", "/", JSON, b"1");
    let Ok(request) = HttpRequest::new(Some(b"POST"), Some(b"/"), JSON.map(str::as_bytes), b"1")
    else {
        return;
    };
    assert_eq!(request.fingerprint(&Exclusions::default(), 0), value);
    let digest = json::digest_text("1", &Exclusions::default());
    assert_ne!(of("POST", "/", JSON, &digest), value);
}

#[test]
fn a_form_counts_by_its_fields() {
    assert_eq!(body(FORM, "a=1&b=2+3"), body(FORM, "b=2%203&a=%31"));
    assert_ne!(body(FORM, "a=1&a=2"), body(FORM, "a=2&a=1"));
    assert_ne!(body(FORM, "a=1"), body(FORM, "a=2"));
    assert_ne!(body(FORM, "a=b&c=d"), body(FORM, "a=b%26c%3Dd"));
}

#[test]
fn excluded_members_and_fields_do_not_count() {
    let exclude = Exclusions::parse(["at", "/meta/at", "/items/*/at"]).unwrap();
    let of = |media, body: &str| excluding(&exclude, "POST", "/", media, body.as_bytes());
    assert_eq!(
        of(JSON, r#"{"n":1,"at":1,"meta":{"at":1},"items":[{"at":1}]}"#),
        of(JSON, r#"{"n":1,"at":2,"meta":{"at":2},"items":[{"at":2}]}"#)
    );
    assert_ne!(of(JSON, r#"{"n":1,"at":1}"#), of(JSON, r#"{"n":2,"at":1}"#));
    assert_eq!(of(FORM, "n=1&at=1"), of(FORM, "at=2&n=1"));
    assert_ne!(of(FORM, "n=1"), of(FORM, "n=2"));
}

#[test]
fn what_is_no_request() {
    let new = |method: Option<&'static str>, target: Option<&'static str>| {
        HttpRequest::new(method.map(str::as_bytes), target.map(str::as_bytes), None, b"")
    };
    for (method, target) in [
        (None, Some("/")),
        (Some(""), Some("/")),
        (Some("GE T"), Some("/")),
        (Some("ПОСТ"), Some("/")),
        (Some("GET"), None),
        (Some("GET"), Some("")),
    ] {
        assert_eq!(
            new(method, target).unwrap_err().code.sqlstate(),
            "22023",
            "{method:?} {target:?}"
        );
    }
    assert!(new(Some("HEAD"), Some("/")).unwrap().is_head());
    assert!(!new(Some("GET"), Some("*")).unwrap().is_head());
    assert!(is_token(b"M-SEARCH"));
}

/// So that a client in another language can compute it, and so that it stays as it is.
#[test]
fn vectors() {
    let hex = |found: Fingerprint| {
        found.digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    for (method, target, media, body, expected) in [
        ("POST", "/pay", JSON, r#"{"amount": 1.50}"#, "f01e9c76a3a2428bbcefdd00fcfcd5e4"),
        ("POST", "/pay", FORM, "b=2&a=1", "bbef9bc0c65200648f5f5d99c4b0176c"),
        (
            "PUT",
            "/pay/7?x=1",
            Some("text/plain; charset=utf-8"),
            "hello",
            "e4df64823288aa8115d07b157545ed17",
        ),
        ("DELETE", "/pay/7", None, "", "04d4faf2436f25d62d510fdd13d9eb11"),
    ] {
        assert_eq!(hex(of(method, target, media, body.as_bytes())), expected, "{method} {target}");
    }
}

proptest! {
    #[test]
    fn a_fingerprint_of_anything(body in prop::collection::vec(any::<u8>(), 0..60), media in prop::sample::select(vec![None, JSON, FORM])) {
        prop_assert_eq!(of("POST", "/", media, &body), of("POST", "/", media, &body));
    }

    #[test]
    fn equal_documents_are_equal_requests(one in json::documents(), other in json::documents()) {
        prop_assume!(![&one, &other].iter().any(|value| value.to_string().contains("\\u0000")));
        let of = |value: &serde_json::Value| body(JSON, &value.to_string());
        prop_assert_eq!(of(&one) == of(&other), json::same(&one, &other));
    }
}

thread_local! {
    static LOOKS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

#[test]
fn a_long_body_is_looked_up_from() {
    let body = vec![b'x'; 10 * 1024 * 1024];
    for media in [None, Some(&b"application/json"[..])] {
        LOOKS.set(0);
        let request = HttpRequest::new(Some(b"POST"), Some(b"/"), media, &body).unwrap();
        let request = request.looking_up(|| LOOKS.set(LOOKS.get() + 1));
        let _ = request.fingerprint(&Exclusions::default(), 0);
        assert_eq!(LOOKS.get(), 10);
    }
}
