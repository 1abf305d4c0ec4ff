use super::{DEEPEST, Document, LARGEST, memory, quote};
use crate::json;
use crate::request::exclude::Exclusions;
use crate::request::fingerprint::Canonical;
use proptest::prelude::*;

fn digest(text: &str) -> Option<[u8; 32]> {
    let exclude = Exclusions::default();
    let mut canonical = Canonical::new(&exclude);
    Document::parse(text.as_bytes(), || ())?.emit(|token| canonical.token(token));
    Some(canonical.finish())
}

#[test]
fn texts_with_one_value() {
    for (one, other) in [
        ("1", " 1.0\t\r\n"),
        ("-0.0", "0e99"),
        ("1E+2", "100"),
        ("\"\\u00e9\\n\\/\"", "\"é\\u000a/\""),
        ("\"\\ud83d\\ude00\"", "\"😀\""),
        (r#""\b\f\r\t\"\\""#, r#""\u0008\u000c\u000d\u0009\u0022\u005c""#),
        ("[]", "[ ]"),
        ("{}", "{\n}"),
        (r#"{"b":1,"a":[{},[]]}"#, r#"{ "a" : [ { } , [ ] ] , "b" : 1 }"#),
        (r#"{"a":1,"a":{"b":2}}"#, r#"{"a":{"b":2}}"#),
        (r#"{"a":[1,{"c":1}],"b":2,"\u0061":3,"a":4}"#, r#"{"a":4,"b":2}"#),
        (r#"{"aa":1,"b":2}"#, r#"{"b":2,"aa":1}"#),
        (r#"{"":1}"#, r#"{"" : 1}"#),
    ] {
        assert!(digest(one).is_some(), "{one}");
        assert_eq!(digest(one), digest(other), "{one} {other}");
    }
}

#[test]
fn texts_that_are_refused() {
    for text in [
        "",
        " ",
        "nul",
        "truee",
        "tru",
        "NaN",
        "Infinity",
        "-",
        "+1",
        "01",
        "1.",
        ".1",
        "1e",
        "1e+",
        "0x1",
        "1 2",
        "'a'",
        "\"",
        "\"a",
        "\"\\\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\"\\ud800x\"",
        "\"\\ud800\\n\"",
        "\"\\ud800\\ud800\"",
        "\"\\udc00\"",
        "\"\n\"",
        "\"\u{1}\"",
        "[",
        "]",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{",
        "}",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,",
        "{\"a\":1,}",
        "{a:1}",
        "{\"a\" 1}",
        "{1:1}",
        "{\"a\":1]",
        "[1}",
        "{,}",
        "[] []",
        "{}x",
        "\u{feff}1",
        "\u{a0}1",
    ] {
        assert!(digest(text).is_none(), "{text}");
    }
    assert!(Document::parse(b"\"\xff\"", || ()).is_none());
    assert!(Document::parse(b"\"\xed\xa0\x80\"", || ()).is_none());
}

#[test]
fn no_depth_and_no_size_is_too_much_to_refuse() {
    let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(digest(&nested(DEEPEST)).is_some());
    assert!(digest(&nested(DEEPEST + 1)).is_none());
    assert!(digest(&"{\"a\":".repeat(1_000_000)).is_none());
    let large = " ".repeat(LARGEST) + "1";
    assert!(digest(&large).is_none());
    assert!(digest(&large[1..]).is_some());
    assert_eq!(memory(large.as_bytes()), 0);
    assert!(memory(&large.as_bytes()[1..]) > LARGEST);
}

proptest! {
    #[test]
    fn a_text_has_the_tokens_of_its_value(value in json::documents()) {
        prop_assume!(!value.to_string().contains("\\u0000"));
        let expected = json::digest(&value, &Exclusions::default(), &json::plain);
        prop_assert_eq!(digest(&value.to_string()), Some(expected));
        prop_assert_eq!(digest(&serde_json::to_string_pretty(&value).unwrap()), Some(expected));
    }

    #[test]
    fn what_is_taken_serde_takes_too(text in "[\\[\\]{}:,\"a\\\\u0d8c1e.+ -]{0,12}") {
        if digest(&text).is_some() {
            // serde reads numbers as doubles, so it may find one too large.
            let read = serde_json::from_str::<serde_json::Value>(&text);
            prop_assert!(read.is_ok() || read.unwrap_err().to_string().contains("out of range"));
        }
    }

    #[test]
    fn what_serde_takes_is_taken(value in json::documents(), cut in 0..40_usize) {
        let text: String = value.to_string().chars().skip(cut).collect();
        prop_assume!(!text.contains("\\u0000"));
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), digest(&text).is_some());
    }

    #[test]
    fn a_quoted_string_is_itself(text: String) {
        let mut json = String::new();
        quote(&text, &mut json);
        prop_assert!(json.is_ascii());
        prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}

thread_local! {
    static LOOKS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

#[test]
fn long_work_looks_up_now_and_then() {
    let looks = |work: &dyn Fn()| {
        LOOKS.set(0);
        work();
        LOOKS.get()
    };
    let look = || LOOKS.set(LOOKS.get() + 1);
    let array = format!("[{}1]", "1,".repeat(100_000));
    // In an order that has to be sorted.
    let member = |number: u32| format!("\"{:010}\":1,", number.wrapping_mul(2_654_435_761));
    let object = format!("{{{}\"\":1}}", (0..100_000).map(member).collect::<String>());
    for text in [array, object] {
        let parsing = looks(&|| assert!(Document::parse(text.as_bytes(), look).is_some()));
        assert!(parsing > 10, "{parsing}");
        let document = Document::parse(text.as_bytes(), look).unwrap();
        let emitting = looks(&|| document.emit(|_| ()));
        assert!(emitting > 10, "{emitting}");
    }
}
