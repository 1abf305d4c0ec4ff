use super::{Header, HeaderRules, of_replay, read, stored, write};
use proptest::prelude::*;

fn header(name: &str, value: &str) -> Header {
    (name.to_owned(), value.to_owned())
}

fn kept(rules: &HeaderRules, names: &[&str]) -> Vec<String> {
    let headers = names.iter().map(|name| header(name, "v")).collect();
    rules.kept(headers).into_iter().map(|(name, _)| name).collect()
}

const OF_NO_ONE_ELSE: &[&str] = &[
    "Connection",
    "Keep-Alive",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "Proxy-Connection",
    "Set-Cookie",
    "Set-Cookie2",
    "Authorization",
    "WWW-Authenticate",
    "Authentication-Info",
    "Content-Length",
    "Idempotent-Replayed",
    "Idempotent-Evicted",
];
const OF_THE_EXCHANGE: &[&str] = &[
    "Date",
    "Server",
    "Age",
    "Via",
    "traceparent",
    "tracestate",
    "X-Request-Id",
    "RateLimit",
    "RateLimit-Limit",
    "RateLimit-Reset",
    "X-RateLimit-Remaining",
];
const OF_THE_ANSWER: &[&str] =
    &["Content-Type", "Location", "ETag", "Vary", "Retry-After", "Link", "X-Mine"];

#[test]
fn by_default() {
    let rules = HeaderRules::default();
    assert!(kept(&rules, OF_NO_ONE_ELSE).is_empty());
    assert!(kept(&rules, OF_THE_EXCHANGE).is_empty());
    assert_eq!(kept(&rules, OF_THE_ANSWER), OF_THE_ANSWER);
}

#[test]
fn what_connection_names_is_of_the_connection() {
    let headers =
        vec![header("connection", "close, X-Hop"), header("x-hop", "1"), header("X-Mine", "2")];
    assert_eq!(HeaderRules::default().kept(headers), [header("X-Mine", "2")]);
}

#[test]
fn an_operation_says_otherwise() {
    let rules = HeaderRules::parse(["+date", "-X-MINE"]).unwrap();
    assert_eq!(kept(&rules, &["Date", "x-mine", "ETag", "Age"]), ["Date", "ETag"]);
    let only = HeaderRules::parse(["+Location", "-*"]).unwrap();
    assert_eq!(kept(&only, &["Date", "location", "ETag"]), ["location"]);
}

#[test]
fn entries_that_mean_nothing() {
    for entry in ["", "+", "-", "Date", "+*", "+a b", "+Date:", "+Ключ"] {
        assert_eq!(HeaderRules::parse([entry]).unwrap_err().code.sqlstate(), "22023", "{entry}");
    }
    for name in OF_NO_ONE_ELSE {
        assert!(HeaderRules::parse([format!("+{name}")]).is_err(), "{name}");
        assert!(HeaderRules::parse([format!("-{name}")]).is_ok(), "{name}");
    }
    assert!(HeaderRules::parse(["+Date", "-date"]).is_err());
}

#[test]
fn pairs_in_their_order() {
    let text = r#" [ ["B","1"], ["a","\u00e9\n"], ["B","2"] ] "#;
    assert!(read(text.as_bytes(), || ()).is_err(), "a line feed is a control character");
    let text = r#"[["B","1"],["a","\u00e9\t\"\\"],["B","2"]]"#;
    let headers = read(text.as_bytes(), || ()).unwrap();
    assert_eq!(headers, [header("B", "1"), header("a", "é\t\"\\"), header("B", "2")]);
    assert_eq!(write(&headers), r#"[["B","1"],["a","\u00e9\u0009\"\\"],["B","2"]]"#);
    assert_eq!(write(&read(b"[]", || ()).unwrap()), "[]");
}

#[test]
fn what_is_no_list_of_pairs() {
    for text in [
        "",
        "null",
        "1",
        "\"a\"",
        "{}",
        r#"{"a":"b"}"#,
        "[1]",
        r#"["a","b"]"#,
        r#"[["a"]]"#,
        r#"[["a","b","c"]]"#,
        r#"[["a",1]]"#,
        r#"[["a",null]]"#,
        r#"[["a",["b"]]]"#,
        r#"[[["a","b"]]]"#,
        r#"[["a","b"]"#,
        r#"[["a","b"]] x"#,
        r#"[["","b"]]"#,
        r#"[["a b","c"]]"#,
        r#"[["a:","c"]]"#,
        r#"[["a","b\r\nSet-Cookie: c"]]"#,
        r#"[["a","\u0000"]]"#,
        r#"[["a","\u007f"]]"#,
    ] {
        assert_eq!(read(text.as_bytes(), || ()).unwrap_err().code.sqlstate(), "22023", "{text}");
    }
    let secret = read(br#"[["a","secret\n"]]"#, || ()).unwrap_err();
    assert!(!format!("{secret:?}").contains("secret"), "no value of a header is told");
}

#[test]
fn what_other_functions_have_stored() {
    assert_eq!(stored(br#"[["a","b"]]"#), [header("a", "b")]);
    assert_eq!(
        stored(br#"{"Location":"/7","Age":5}"#),
        [header("Age", "5"), header("Location", "/7")]
    );
    for text in ["1", "null", "[1]", r#"{"a":{"b":"c"}}"#, r#"{"a":["b","c"]}"#, r#"["a"]"#] {
        assert!(stored(text.as_bytes()).is_empty(), "{text}");
    }
}

#[test]
fn a_replay_says_so() {
    let names = |evicted| {
        of_replay(vec![header("ETag", "1")], evicted)
            .into_iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(names(false), ["ETag: 1", "Idempotent-Replayed: true"]);
    assert_eq!(names(true), ["ETag: 1", "Idempotent-Replayed: true", "Idempotent-Evicted: true"]);
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(headers in prop::collection::vec(("[!#$%&'*+.^_`|~0-9A-Za-z-]{1,9}", "[ -~\u{a0}-\u{ffff}\u{10000}-\u{10fff}]{0,9}"), 0..5)) {
        let json = write(&headers);
        prop_assert!(json.is_ascii());
        prop_assert_eq!(read(json.as_bytes(), || ()).unwrap(), headers.clone());
        prop_assert_eq!(serde_json::from_str::<Vec<Header>>(&json).unwrap(), headers);
    }
}

/// Each name would have to be compared with all others.
#[test]
fn as_many_headers_as_there_is_memory_for() {
    let names: Vec<String> = (0..300_000).map(|number| format!("X-{number}")).collect();
    let rules = HeaderRules::parse(names.iter().map(|name| format!("+{name}"))).unwrap();
    let mut headers: Vec<_> = names.iter().map(|name| header(name, "v")).collect();
    headers.push(header("Connection", &names.join(",")));
    assert!(rules.kept(headers).is_empty());
}
