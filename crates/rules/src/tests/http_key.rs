use super::{BadKey, read, within};
use proptest::prelude::*;

const NAMED: &[(&str, &str)] = &[
    ("abc", "abc"),
    ("\"abc\"", "abc"),
    (" \t abc \t", "abc"),
    (" \"abc\" ", "abc"),
    ("\" abc \"", " abc "),
    (r#""a\"b\\c""#, r#"a"b\c"#),
    (r#"a"b\c"#, r#"a"b\c"#),
    ("a, b", "a, b"),
    ("ключ", "ключ"),
    ("018f4e5c-7a00-7000-8000-000000000001", "018f4e5c-7a00-7000-8000-000000000001"),
];

const REFUSED: &[(Option<&str>, BadKey)] = &[
    (None, BadKey::Missing),
    (Some(""), BadKey::Missing),
    (Some(" \t "), BadKey::Missing),
    (Some("\""), BadKey::NoString),
    (Some("\"abc"), BadKey::NoString),
    (Some("\"abc\"d"), BadKey::NoString),
    (Some("\"abc\";q=1"), BadKey::NoString),
    (Some("\"a\\b\""), BadKey::NoString),
    (Some("\"a\\"), BadKey::NoString),
    (Some("\"ключ\""), BadKey::NoString),
    (Some("\"a\tb\""), BadKey::NoString),
    (Some("\"\""), BadKey::NoKey),
    (Some("a\tb"), BadKey::NoKey),
    (Some("a\u{7f}b"), BadKey::NoKey),
    (Some("a\u{85}b"), BadKey::NoKey),
];

#[test]
fn headers_that_name_a_key() {
    for (header, key) in NAMED {
        assert_eq!(read(Some(header.as_bytes())).as_deref(), Ok(key.as_bytes()), "{header}");
        assert_eq!(&*within(header.as_bytes()), key.as_bytes(), "{header}");
    }
}

#[test]
fn headers_that_name_none() {
    for (header, why) in REFUSED {
        assert_eq!(read(header.map(str::as_bytes)), Err(*why), "{header:?}");
    }
}

#[test]
fn a_key_has_at_most_255_bytes() {
    for (length, fits) in [(255, true), (256, false)] {
        let key = "k".repeat(length);
        for header in [key.clone(), format!("\"{key}\"")] {
            assert_eq!(read(Some(header.as_bytes())).is_ok(), fits, "{length}");
        }
    }
    // The escapes do not count.
    assert!(read(Some(format!("\"{}\"", "\\\\".repeat(255)).as_bytes())).is_ok());
}

proptest! {
    #[test]
    fn a_string_names_what_it_holds(key in "[ -~]{1,255}") {
        let header = format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""));
        let named = read(Some(header.as_bytes())).unwrap();
        prop_assert_eq!(&*named, key.as_bytes());
    }

    #[test]
    fn a_raw_key_and_its_string_are_one(key in "[!#-~]{1,255}") {
        let string = format!("\"{}\"", key.replace('\\', "\\\\"));
        prop_assert_eq!(read(Some(key.as_bytes())), read(Some(string.as_bytes())));
    }

    #[test]
    fn whatever_comes_is_a_key_or_a_reason(header in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(key) = read(Some(&header)) {
            prop_assert!((1..=255).contains(&key.len()));
            prop_assert_eq!(&*within(&header), &*key);
        }
    }
}
