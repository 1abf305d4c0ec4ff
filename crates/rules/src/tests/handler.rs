use super::*;

/// What is read: a name, an OID behind `#`, or nothing.
fn read(text: &str) -> Option<String> {
    Some(match Named::parse(text.as_bytes())? {
        Named::Name(name) => String::from_utf8_lossy(name).into_owned(),
        Named::Oid(oid) => format!("#{oid}"),
    })
}

#[test]
fn a_handler_is_named_with_and_without_its_schema_and_argument() {
    for (text, expected) in [
        ("pay", "pay"),
        ("app.pay", "app.pay"),
        ("app.pay(jsonb)", "app.pay"),
        ("app.pay(pg_catalog.jsonb)", "app.pay"),
        (" app . pay ( JSONB ) ", "app . pay"),
        ("\"a(b)\".\"pay\"", "\"a(b)\".\"pay\""),
        ("\"a(b)\".pay(jsonb)", "\"a(b)\".pay"),
        ("", ""),
        ("pay((jsonb)", "pay("),
        ("-", "-"),
        ("(jsonb)", ""),
    ] {
        assert_eq!(read(text).as_deref(), Some(expected), "{text}");
    }
}

#[test]
fn digits_are_an_oid() {
    assert_eq!(read("0042").as_deref(), Some("#42"));
    assert_eq!(read("4294967295").as_deref(), Some("#4294967295"));
    // No OID is as large, and 0 is no function's.
    assert_eq!(read("4294967296").as_deref(), Some("#0"));
    assert_eq!(read("99999999999999999999999").as_deref(), Some("#0"));
    assert_eq!(read("1a").as_deref(), Some("1a"));
}

#[test]
fn other_arguments_are_none_of_a_handlers() {
    for text in ["pay()", "pay(json)", "pay(jsonb, jsonb)", "pay(request jsonb)", ")", "x)"] {
        assert_eq!(read(text), None, "{text}");
    }
    assert_eq!(other_arguments(b"pay()").code.sqlstate(), "22023");
}

#[test]
fn a_missing_handler_says_what_to_type() {
    let error = missing(b"app.pay");
    assert_eq!(error.code.sqlstate(), "42883");
    assert!(error.hint.is_some_and(|hint| hint.contains("'app.pay'")));
}
