use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::json::{digest, digest_text, documents, names, plain};

/// The digest of a document without what the entries name.
fn without(json: &str, entries: &[&str]) -> [u8; 32] {
    digest_text(json, &Exclusions::parse(entries).unwrap())
}

fn whole(json: &str) -> [u8; 32] {
    without(json, &[])
}

#[test]
fn a_member_vanishes_with_its_value() {
    let left = whole(r#"{"amount":1}"#);
    for value in
        ["1", "null", "\"x\"", "[]", "{}", "[1,[2,{\"amount\":3}]]", "{\"amount\":{\"b\":[]}}"]
    {
        let json = format!(r#"{{"amount":1,"at":{value}}}"#);
        assert_eq!(without(&json, &["at"]), left, "{json}");
        assert_eq!(without(&json, &["/at"]), left, "{json}");
        let json = format!(r#"{{"amount":1,"m":{{"at":{value}}},"z":0}}"#);
        let left = whole(r#"{"amount":1,"m":{},"z":0}"#);
        assert_eq!(without(&json, &["/m/at"]), left, "{json}");
    }
    assert_eq!(without(r#"{"at":1}"#, &["at"]), whole("{}"));
}

#[test]
fn only_what_is_named_vanishes() {
    let json = r#"{"a":{"at":1,"b":{"at":2}},"at":3,"list":[{"at":4}],"ät":5}"#;
    assert_eq!(
        without(json, &["at"]),
        whole(r#"{"a":{"at":1,"b":{"at":2}},"list":[{"at":4}],"ät":5}"#)
    );
    assert_eq!(
        without(json, &["/a/at"]),
        whole(r#"{"a":{"b":{"at":2}},"at":3,"list":[{"at":4}],"ät":5}"#)
    );
    assert_eq!(
        without(json, &["/a/b/at", "ät"]),
        whole(r#"{"a":{"at":1,"b":{}},"at":3,"list":[{"at":4}]}"#)
    );
    for nothing in ["/b/at", "/list/0", "/list/at", "/list/0/at", "/at/at", "a.at", "AT", "/"] {
        assert_eq!(without(json, &[nothing]), whole(json), "{nothing}");
    }
}

#[test]
fn every_element_of_an_array_can_be_meant() {
    let json = r#"{"items":[{"id":1,"at":1},{"at":{"b":[2]},"id":2},[{"at":3}],4,{}],"at":5}"#;
    assert_eq!(
        without(json, &["/items/*/at"]),
        whole(r#"{"items":[{"id":1},{"id":2},[{"at":3}],4,{}],"at":5}"#)
    );
    assert_eq!(
        without(json, &["/items/*/*/at", "/items/*/at/b"]),
        whole(r#"{"items":[{"id":1,"at":1},{"at":{},"id":2},[{}],4,{}],"at":5}"#)
    );
    assert_eq!(without(json, &["/items/*"]), whole(r#"{"items":[],"at":5}"#));
    assert_eq!(without(json, &["/items/*/id/*", "/*", "/at/*", "*"]), whole(json));
    assert_eq!(without(r#"[{"at":1},[{"at":2}]]"#, &["/*/at"]), whole(r#"[{},[{"at":2}]]"#));
    assert_eq!(without(r#"[[1],[{"at":2}]]"#, &["/*/*/at"]), whole("[[1],[{}]]"));
    // In an object it is a member's name.
    assert_eq!(
        without(r#"{"items":{"*":{"at":1}}}"#, &["/items/*/at"]),
        whole(r#"{"items":{"*":{}}}"#)
    );
}

#[test]
fn arrays_are_not_entered_otherwise_and_scalars_have_no_members() {
    for json in [
        r#"[{"a":1}]"#,
        r#"[[{"a":1}],{"a":1}]"#,
        r#"[{},{"a":1}]"#,
        r#"[[],{"a":1}]"#,
        r#""a""#,
        "1",
        "null",
    ] {
        assert_eq!(without(json, &["a", "/0/a"]), whole(json), "{json}");
    }
    assert_eq!(without(r#"{"l":[{},{"a":1}]}"#, &["/l/a"]), whole(r#"{"l":[{},{"a":1}]}"#));
    // After an array the way through the object goes on.
    assert_eq!(
        without(r#"{"l":[{"a":1},[]],"m":{"a":1}}"#, &["/m/a", "/l/a"]),
        whole(r#"{"l":[{"a":1},[]],"m":{}}"#)
    );
}

#[test]
fn pointers_are_unescaped_and_names_are_not() {
    assert_eq!(without(r#"{"a/b":1}"#, &["/a~1b"]), whole("{}"));
    assert_eq!(without(r#"{"a/b":1}"#, &["a/b"]), whole("{}"));
    assert_eq!(without(r#"{"m~n":1}"#, &["/m~0n"]), whole("{}"));
    assert_eq!(without(r#"{"m~n":1}"#, &["m~n"]), whole("{}"));
    assert_eq!(without(r#"{"~1":1}"#, &["/~01"]), whole("{}"));
    assert_eq!(without(r#"{"/a":1}"#, &["/~1a"]), whole("{}"));
    assert_eq!(without(r#"{"":1}"#, &["/"]), whole("{}"));
    assert_eq!(without(r#"{"a":{"":1}}"#, &["/a/"]), whole(r#"{"a":{}}"#));
}

#[test]
fn bad_entries_are_refused() {
    for entry in ["", "/~", "/a~", "/a~2", "/~/a", "/a/b~x"] {
        let error = Exclusions::parse(["fine", entry]).unwrap_err();
        assert_eq!(error.code, Code::InvalidParameter, "{entry:?}");
        assert!(error.message.starts_with("fingerprint_exclude has "));
        assert!(error.hint.unwrap().contains("'/meta/sent_at'"));
    }
    let error = Exclusions::parse([b"/a~\xff"]).unwrap_err();
    assert_eq!(error.detail.as_deref(), Some("The entry is \"/a~\u{fffd}\"."));
}

#[test]
fn equal_sets_are_equal() {
    let parse = |entries: &[&str]| Exclusions::parse(entries).unwrap();
    assert_eq!(parse(&["a", "/b/c", "/b/d"]), parse(&["/b/d", "/a", "/b/c", "a"]));
    // What is below an excluded member adds nothing.
    assert_eq!(parse(&["/a/b/c", "/a/b"]), parse(&["/a/b"]));
    assert_eq!(parse(&["/a/b", "/a/b/c", "a"]), parse(&["a"]));
    assert_ne!(parse(&["/a/b"]), parse(&["/a/c"]));
    assert!(parse(&[]).is_empty());
    assert!(!parse(&["a"]).is_empty());
    let bytes: &[Vec<u8>] = &[b"a".to_vec()];
    assert_eq!(Exclusions::parse(bytes), Exclusions::parse([&b"a"[..]]));
}

#[test]
fn a_pointer_may_be_as_deep_as_it_likes() {
    let pointer = "/a".repeat(100_000);
    let exclude = Exclusions::parse([&pointer]).unwrap();
    assert_eq!(digest_text("{}", &exclude), whole("{}"));
}

/// What excluding should leave, worked out on the document itself.
fn prune(value: &mut Value, path: &[String]) {
    match (value, path.split_first()) {
        (Value::Object(members), Some((name, []))) => drop(members.remove(name)),
        (Value::Object(members), Some((name, rest))) => {
            members.get_mut(name).into_iter().for_each(|member| prune(member, rest));
        }
        (Value::Array(elements), Some((every, []))) if every == "*" => elements.clear(),
        (Value::Array(elements), Some((every, rest))) if every == "*" => {
            elements.iter_mut().for_each(|element| prune(element, rest));
        }
        _ => {}
    }
}

fn pointer(path: &[String]) -> String {
    let escape = |name: &String| format!("/{}", name.replace('~', "~0").replace('/', "~1"));
    path.iter().map(escape).collect()
}

proptest! {
    #[test]
    fn excluding_is_removing(
        value in prop::collection::btree_map(names(), documents(), 0..5),
        paths in prop::collection::vec(
            prop::collection::vec(prop_oneof![3 => names(), 1 => Just("*".to_owned())], 1..4),
            0..5,
        ),
    ) {
        let value = Value::Object(value.into_iter().collect());
        let exclude = Exclusions::parse(paths.iter().map(|path| pointer(path))).unwrap();
        let mut pruned = value.clone();
        for path in &paths {
            prune(&mut pruned, path);
        }
        prop_assert_eq!(
            digest(&value, &exclude, &plain),
            digest(&pruned, &Exclusions::default(), &plain)
        );
    }

    #[test]
    fn any_bytes_are_an_entry_or_refused(
        entries in prop::collection::vec("[/~01a]{0,5}|\\PC{0,4}", 0..4),
    ) {
        if let Err(error) = Exclusions::parse(&entries) {
            prop_assert_eq!(error.code, Code::InvalidParameter);
        }
    }
}
