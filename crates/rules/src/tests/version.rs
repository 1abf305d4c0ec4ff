use super::*;

#[test]
fn releases_of_a_series_share_a_schema() {
    for (library, schema) in
        [("1.0.0", "1.0.0"), ("1.0.7", "1.0.0"), ("1.0.0", "1.0.7"), ("2.10.0", "2.10.3-rc.1")]
    {
        assert_eq!(check(library, schema), Ok(()), "{library} on {schema}");
    }
}

#[test]
fn any_other_schema_is_refused_and_the_hint_says_which_of_them_is_behind() {
    let (update, reconnect) = ("ALTER EXTENSION pg_idempotent UPDATE;", "Reconnect.");
    for (library, schema, advice) in [
        ("1.0.0", "0.9.0", update),
        ("1.1.0", "1.0.9", update),
        ("1.10.0", "1.9.0", update),
        ("1.0.0", "none", update),
        ("1.0.0", "", update),
        ("1.0.0", "1.1.0", reconnect),
        ("1.9.0", "1.10.0", reconnect),
        ("1.9.0", "2.0.0", reconnect),
    ] {
        let refusal = check(library, schema).expect_err("another series");
        assert_eq!(refusal.code, Code::ObjectNotReady, "{library} on {schema}");
        let (detail, hint) = (refusal.detail.unwrap_or_default(), refusal.hint.unwrap_or_default());
        assert!(detail.contains(library) && detail.contains(schema), "{detail}");
        assert!(hint.starts_with(advice), "{library} on {schema}: {hint}");
    }
}
