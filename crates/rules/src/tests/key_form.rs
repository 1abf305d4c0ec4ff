use super::*;

const KEY: &str = "0194b2c8-7a3e-7f10-8c55-6e1d2f3a4b5c";

fn canonical(key: &str) -> Option<String> {
    Canonical::of(key.as_bytes()).map(|uuid| uuid.as_str().to_owned())
}

fn respelled(form: KeyForm, key: &str) -> Result<Option<Canonical>> {
    let identity = Identity::new(Some(b"charge"), Some(b""), Some(key.as_bytes()))?;
    form.respell(&identity)
}

#[test]
fn every_spelling_is_one_key() {
    for spelling in [
        KEY,
        "0194B2C8-7A3E-7F10-8C55-6E1D2F3A4B5C",
        "0194b2c87a3e7f108c556e1d2f3a4b5c",
        "{0194b2c8-7a3e-7f10-8c55-6e1d2f3a4b5c}",
        "{0194B2C87A3E7F108C556E1D2F3A4B5C}",
        "0194-b2c8-7a3e-7f10-8c55-6e1d-2f3a-4b5c",
        "0194b2c87a3e-7f108c55-6e1d2f3a4b5c",
        "urn:uuid:0194b2c8-7a3e-7f10-8c55-6e1d2f3a4b5c",
        "URN:UUID:0194B2C8-7A3E-7F10-8C55-6E1D2F3A4B5C",
    ] {
        assert_eq!(canonical(spelling).as_deref(), Some(KEY), "{spelling}");
    }
}

#[test]
fn what_is_no_uuid_is_none() {
    for wrong in [
        "",
        "k",
        "0194b2c8-7a3e-7f10-8c55-6e1d2f3a4b5",
        "0194b2c8-7a3e-7f10-8c55-6e1d2f3a4b5c0",
        "0194b2c8-7a3e-7f10-8c55-6e1d2f3a4b5g",
        "0194b2c8--7a3e-7f10-8c55-6e1d2f3a4b5c",
        "-0194b2c8-7a3e-7f10-8c55-6e1d2f3a4b5c",
        "0194b2c8-7a3e-7f10-8c55-6e1d2f3a4b5c-",
        "019-4b2c8-7a3e-7f10-8c55-6e1d2f3a4b5c",
        "{0194b2c8-7a3e-7f10-8c55-6e1d2f3a4b5c",
        "0194b2c8-7a3e-7f10-8c55-6e1d2f3a4b5c}",
        "{{0194b2c8-7a3e-7f10-8c55-6e1d2f3a4b5c}}",
        "{}",
        "urn:uuid:{0194b2c8-7a3e-7f10-8c55-6e1d2f3a4b5c}",
        "{urn:uuid:0194b2c8-7a3e-7f10-8c55-6e1d2f3a4b5c}",
        "urn:uuid:",
        "uuid:0194b2c8-7a3e-7f10-8c55-6e1d2f3a4b5c",
        " 0194b2c8-7a3e-7f10-8c55-6e1d2f3a4b5c",
        "0194b2c8-7a3e-7f10-8c55-6e1d2f3a4b5c ",
        "\"0194b2c8-7a3e-7f10-8c55-6e1d2f3a4b5c\"",
        "0194b2c8\u{2011}7a3e-7f10-8c55-6e1d2f3a4b5c",
    ] {
        assert_eq!(canonical(wrong), None, "{wrong}");
    }
}

#[test]
fn a_key_is_respelled_where_the_operation_says_so() {
    let upper = KEY.to_ascii_uppercase();
    assert_eq!(respelled(KeyForm::Text, &upper), Ok(None));
    assert_eq!(respelled(KeyForm::Text, "k"), Ok(None));
    assert_eq!(respelled(KeyForm::Uuid, KEY), Ok(None));
    let found = respelled(KeyForm::Uuid, &upper).unwrap();
    assert_eq!(found.as_ref().map(Canonical::as_str), Some(KEY));
    assert!(
        KeyForm::Text.takes(b"k")
            && KeyForm::Uuid.takes(upper.as_bytes())
            && !KeyForm::Uuid.takes(b"k")
    );
    let error = respelled(KeyForm::Uuid, "it's \"k\"").unwrap_err();
    assert_eq!(error.code, Code::BadKey);
    assert_eq!(error.message, "key must be a UUID");
    assert_eq!(
        error.detail.as_deref(),
        Some("Operation \"charge\" has key_form 'uuid'. The key is \"it's \\\"k\\\"\".")
    );
    assert!(error.hint.unwrap().ends_with("idempotent_operation('charge', key_form => 'text')."));
}
