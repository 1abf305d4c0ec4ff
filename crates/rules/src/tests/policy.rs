use super::*;

#[test]
fn the_defaults_are_those_of_the_contract() {
    let policy = Policy::default();
    assert_eq!(policy.retention, 86_400_000_000);
    assert_eq!(policy.failure_retention, 300_000_000);
    assert_eq!(policy.response_retention, None);
    assert_eq!(policy.lease, None);
    assert_eq!(policy.wait, None);
    assert_eq!(policy.durability, Durability::Unlogged);
    assert_eq!(policy.on_lapse, OnLapse::Retry);
    assert_eq!(policy.after_reset, AfterReset::Unknown);
    assert_eq!(policy.max_response_bytes, 1_048_576);
    assert!(!policy.scope_required);
    assert!(policy.exclude.is_empty());
    assert!(policy.store_failures.is_empty());
    assert_eq!(policy.role, None);
}

#[test]
fn choices_are_read_as_they_are_written() {
    for choice in [Durability::Logged, Durability::Unlogged] {
        assert_eq!(Durability::parse(choice.as_str()), Ok(choice));
    }
    for choice in [OnLapse::Retry, OnLapse::Unknown] {
        assert_eq!(OnLapse::parse(choice.as_str()), Ok(choice));
    }
    for choice in [AfterReset::Unknown, AfterReset::Execute] {
        assert_eq!(AfterReset::parse(choice.as_str()), Ok(choice));
    }
    assert_eq!(Durability::parse("logged"), Ok(Durability::Logged));
    assert_eq!(OnLapse::parse("retry"), Ok(OnLapse::Retry));
    assert_eq!(AfterReset::parse("execute"), Ok(AfterReset::Execute));
    assert_eq!(Durability::parse(b"LOGGED"), Ok(Durability::Logged));
}

#[test]
fn other_values_are_refused_with_the_accepted_ones() {
    let refused = [
        (
            Durability::parse("log\"\n").map(|_| ()),
            r#"durability cannot be "log\"\u{a}""#,
            "Pass durability => 'unlogged' or durability => 'logged'.",
        ),
        (
            OnLapse::parse("").map(|_| ()),
            r#"on_lapse cannot be """#,
            "Pass on_lapse => 'retry' or on_lapse => 'unknown'.",
        ),
        (
            Mode::parse("watch").map(|_| ()),
            r#"mode cannot be "watch""#,
            "Pass mode => 'enforce' or mode => 'observe'.",
        ),
        (
            AfterReset::parse(b"execute ").map(|_| ()),
            r#"after_reset cannot be "execute ""#,
            "Pass after_reset => 'unknown' or after_reset => 'execute'.",
        ),
    ];
    for (result, message, hint) in refused {
        let error = result.unwrap_err();
        assert_eq!(error.code, Code::InvalidParameter);
        assert_eq!(error.message, message);
        assert_eq!(error.hint.as_deref(), Some(hint));
    }
}

#[test]
fn a_scope_can_be_demanded() {
    let relaxed = Policy::default();
    let strict = Policy { scope_required: true, ..Policy::default() };
    assert_eq!(relaxed.check_scope(b"charge", b""), Ok(()));
    assert_eq!(relaxed.check_scope(b"charge", b"t1"), Ok(()));
    assert_eq!(strict.check_scope(b"charge", b"t1"), Ok(()));
    let error = strict.check_scope(b"charge", b"").unwrap_err();
    assert_eq!(error.code, Code::BadKey);
    assert_eq!(error.message, "scope must not be empty");
    assert_eq!(error.detail.as_deref(), Some("Operation \"charge\" demands a scope."));
}
