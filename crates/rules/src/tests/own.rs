use super::*;
use crate::slot::SLOTS;

#[test]
fn slots_are_read_as_postgres_prints_them() {
    let slots = Slots::parse("{[0,2),[5,6),[16000,16384)}").unwrap();
    let contained = (0..SLOTS).filter(|slot| slots.contains(*slot)).collect::<Vec<_>>();
    let expected = (0..2).chain(5..6).chain(16_000..16_384).collect::<Vec<_>>();
    assert_eq!(contained, expected);
    assert!((0..SLOTS).all(|slot| !Slots::parse("{}").unwrap().contains(slot)));
    assert!((0..SLOTS).all(|slot| Slots::parse("{[0,16384)}").unwrap().contains(slot)));
    for text in
        ["", "[0,1)", "{[0,1)", "{(0,1)}", "{[0,x)}", "{[-1,1)}", "{[0,70000)}", "{[,1)}", "{0}"]
    {
        assert_eq!(Slots::parse(text), None, "{text}");
    }
}

#[test]
fn a_refusal_names_owner_slot_and_what_is_owned() {
    let error = Slots::parse("{[0,2)}").unwrap().refusal(b"abc\n");
    assert_eq!(error.code.sqlstate(), "ID010");
    let detail = error.detail.unwrap();
    assert!(detail.starts_with("Owner \"abc\\u{a}\" has slot "), "{detail}");
    assert!(detail.ends_with("This database answers for {[0,2)}."), "{detail}");
}
