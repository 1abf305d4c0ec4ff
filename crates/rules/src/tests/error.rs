use super::*;

#[test]
fn every_code_has_the_sqlstate_of_the_contract() {
    let codes = [
        (Code::InProgress, "ID001"),
        (Code::Mismatch, "ID002"),
        (Code::Fence, "ID003"),
        (Code::Expired, "ID004"),
        (Code::Unknown, "ID005"),
        (Code::BadKey, "ID006"),
        (Code::NoClaim, "ID007"),
        (Code::Sealed, "ID008"),
        (Code::Guard, "ID009"),
        (Code::SerializationFailure, "40001"),
        (Code::LostInsert, "40001"),
        (Code::InvalidParameter, "22023"),
        (Code::InsufficientPrivilege, "42501"),
        (Code::ObjectInUse, "55006"),
        (Code::UndefinedFunction, "42883"),
        (Code::UndefinedObject, "42704"),
        (Code::FeatureNotSupported, "0A000"),
        (Code::LimitExceeded, "54000"),
        (Code::Collision, "23505"),
    ];
    for (code, sqlstate) in codes {
        assert_eq!(code.sqlstate(), sqlstate, "{code:?}");
    }
}

#[test]
fn an_error_is_built_part_by_part() {
    let bare = Error::new(Code::Guard, "the message");
    assert_eq!(bare.detail, None);
    assert_eq!(bare.hint, None);
    let full = bare.clone().detail("The facts.").hint("Type this.");
    assert_eq!(full.code, Code::Guard);
    assert_eq!(full.message, "the message");
    assert_eq!(full.detail.as_deref(), Some("The facts."));
    assert_eq!(full.hint.as_deref(), Some("Type this."));
    assert_eq!(full.clone().hint("Or that.").detail, full.detail);
    assert_eq!(full.to_string(), "the message");
}
