use proptest::prelude::*;

use super::*;
use crate::error::Code;

fn identity<'a>(operation: &'a [u8], scope: &'a [u8], key: &'a [u8]) -> Result<Identity<'a>> {
    Identity::new(Some(operation), Some(scope), Some(key))
}

fn hex(bytes: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(bytes))
}

/// Operation, scope and key; record id, derived key of `stripe`.
type Golden<'a> = (&'a [u8], &'a [u8], &'a [u8], &'a str, &'a str);

/// Computed by another implementation (Python's hashlib). A change here orphans every stored
/// record and every derived key.
#[test]
fn golden() {
    let (long_operation, long) = ([b'o'; 63], [b's'; 255]);
    let long_key = [b'k'; 255];
    let golden: [Golden<'_>; 6] = [
        (
            b"charge",
            b"",
            b"k",
            "62eef6ab8cd239e9e734bde34242e6f7",
            "8218940b95e280cda960e58954a5a328",
        ),
        (
            b"charge",
            b"t1",
            b"k",
            "eac321e1ab9903a38993c4d59ecdf79d",
            "98b554ee44a38bc18fbd5f5882324212",
        ),
        (
            b"charget",
            b"1",
            b"k",
            "8b0b5601ffd66e037a257b2862e41d60",
            "00a2bd9bfd258f08929676ba02eb95b8",
        ),
        (
            "versenden".as_bytes(),
            "Müller & Söhne".as_bytes(),
            "schlüssel-🔑".as_bytes(),
            "dcc2898d5ad09d3c515bb1109e59483f",
            "8a7aff99c66988e291ea53d7033b5805",
        ),
        (
            &long_operation,
            &long,
            &long_key,
            "13c42418438231a5904dc5c0b69e3972",
            "a0cf152839bd88a2af31fe878d341380",
        ),
        (
            b"raw",
            b"\xff\xfe",
            b"\x80",
            "4a8005cdc51228c485938eeafe24ddbe",
            "97899f0270958126908cb68e773bc000",
        ),
    ];
    for (operation, scope, key, id, stripe) in golden {
        let record_id = identity(operation, scope, key).unwrap().record_id();
        assert_eq!(hex(record_id.0), id);
        assert_eq!(hex(record_id.derive(b"stripe")), stripe);
    }
    let record_id = identity(b"charge", b"", b"k").unwrap().record_id();
    assert_eq!(record_id.lock_key(), (0xe734_bde3, 0x4242_e6f7));
    assert_eq!(hex(record_id.derive(b"")), "9b8662bc938a80d3a3acea2590fd4e94");
}

/// What clients compute, too: clients/conformance/vectors/identity.json, by another implementation
/// (Python's hashlib).
#[test]
fn vectors() {
    let text = include_str!("../../../../clients/conformance/vectors/identity.json");
    let vectors: Vec<serde_json::Value> = serde_json::from_str(text).unwrap();
    assert!(vectors.len() >= 20);
    for vector in vectors {
        let part = |name: &str| vector[name].as_str().unwrap().as_bytes();
        let identity = identity(part("operation"), part("scope"), part("key")).unwrap();
        let id = identity.record_id();
        let uuid = |text: &serde_json::Value| text.as_str().unwrap().replace('-', "");
        assert_eq!(hex(id.0), uuid(&vector["record_id"]));
        assert_eq!(hex(id.derive(b"card")), uuid(&vector["derived"]["card"]));
        let (high, low) = id.lock_key();
        assert_eq!(serde_json::json!([high, low]), vector["lock"]);
        assert_eq!(serde_json::json!(identity.slot()), vector["slot"]);
        for (shards, shard) in vector["shards"].as_object().unwrap() {
            let found = slot::shard(identity.slot(), shards.parse().unwrap());
            assert_eq!(serde_json::json!(found), *shard);
        }
    }
}

#[test]
fn ids_of_dated_keys_are_in_the_order_of_time() {
    let id = |operation: &[u8], milliseconds: u64| {
        let key = format!(
            "{:08x}-{:04x}-7000-8000-000000000000",
            milliseconds >> 16,
            milliseconds & 0xffff
        );
        identity(operation, b"", key.as_bytes()).unwrap().record_id()
    };
    let times = [0, 1, 0xffff, 0x1_0000, 1_750_000_000_000, (1 << 48) - 1];
    for (earlier, later) in times.into_iter().zip(times.into_iter().skip(1)) {
        assert!(id(b"charge", earlier) < id(b"refund", later));
        assert!(id(b"refund", earlier) < id(b"charge", later));
    }
    // Of one millisecond, they are told apart by the digest, and so are their locks.
    assert_ne!(id(b"charge", 7), id(b"refund", 7));
    assert_ne!(id(b"charge", 7).lock_key(), id(b"refund", 7).lock_key());
}

#[test]
fn bounds_are_in_bytes_and_inclusive() {
    for (least, most, part) in [(1, 255, &OPERATION), (0, 255, &SCOPE), (1, 255, &KEY)] {
        let bytes = vec![b'x'; most + 1];
        let accepted = |length: usize| check(part, Some(&bytes[..length])).is_ok();
        assert!(accepted(least));
        assert!(accepted(most));
        assert!(!accepted(most + 1));
        assert_eq!(accepted(0), least == 0);
    }
    // 128 letters of two bytes are 256 bytes.
    assert!(check_operation(Some("ä".repeat(127).as_bytes())).is_ok());
    assert!(check_operation(Some("ä".repeat(128).as_bytes())).is_err());
}

#[test]
fn control_characters_are_refused_and_nothing_else() {
    let refused = |key: &[u8]| identity(b"o", b"", key).is_err();
    for code in 0..=0x2fff_u32 {
        let Some(c) = char::from_u32(code) else {
            continue;
        };
        // Unicode's Cc, written out: it has not changed since 1991 and never will.
        let control = matches!(code, 0..=0x1f | 0x7f..=0x9f);
        let text = format!("a{c}b");
        assert_eq!(refused(text.as_bytes()), control, "U+{code:04X}");
    }
    // Not UTF-8: the bytes 80 to 9F may be letters (they are, in Windows' code pages).
    for byte in 0..=u8::MAX {
        let control = matches!(byte, 0..=0x1f | 0x7f);
        assert_eq!(refused(&[b'a', byte, 0xff]), control, "byte {byte:02x}");
    }
}

#[test]
fn a_refusal_says_which_part_what_is_wrong_and_what_to_type() {
    let long = [b'x'; 300];
    let cases = [
        (
            Identity::new(None, None, None),
            "operation must not be null",
            "The operation is text of 1 to 255 bytes.",
            "'charge'",
        ),
        (
            Identity::new(Some(b"o"), None, Some(b"")),
            "scope must not be null",
            "The scope is text of 0 to 255 bytes.",
            "scope => 'tenant-7'",
        ),
        (
            identity(b"o", b"", b""),
            "key must not be empty",
            "The key is text of 1 to 255 bytes.",
            "SELECT idempotent_new_key()",
        ),
        (
            Identity::new(Some(b"o"), Some(b""), None),
            "key must not be null",
            "The key is text of 1 to 255 bytes.",
            "SELECT idempotent_new_key()",
        ),
        (
            identity(b"o", b"", &long),
            "key is too long",
            "The key has 300 bytes in UTF-8; 255 are allowed.",
            "SELECT idempotent_new_key()",
        ),
        (
            identity(b"o", "ä\u{85}".as_bytes(), b"k"),
            "scope must not contain control characters",
            "Byte 3 of the scope starts the control character U+0085.",
            "scope => 'tenant-7'",
        ),
        (
            identity(b"pay\n", b"", b"k"),
            "operation must not contain control characters",
            "Byte 4 of the operation starts the control character U+000A.",
            "'charge'",
        ),
    ];
    for (result, message, detail, hint) in cases {
        let error = result.unwrap_err();
        assert_eq!(error.code, Code::BadKey);
        assert_eq!(error.message, message);
        assert_eq!(error.detail.as_deref(), Some(detail));
        assert!(error.hint.unwrap().contains(hint), "{message}");
    }
}

#[test]
fn describing_is_exact_for_plain_text_and_safe_for_the_rest() {
    let described = |scope: &[u8], key: &[u8]| identity(b"charge", scope, key).unwrap().describe();
    assert_eq!(described(b"t1", b"k"), r#"operation "charge", scope "t1", key "k""#);
    assert_eq!(
        described("Zoë".as_bytes(), br#"a"b\c"#),
        r#"operation "charge", scope "Zoë", key "a\"b\\c""#
    );
    assert_eq!(
        described(b"", "a\u{2028}b\u{202e}c\u{2069}".as_bytes()),
        r#"operation "charge", scope "", key "a\u{2028}b\u{202e}c\u{2069}""#
    );
    // Bytes that are no text, among them a C1 control that only decoding reveals.
    assert_eq!(
        described(b"", b"a\xff\xc2\x85"),
        "operation \"charge\", scope \"\", key \"a\u{fffd}\\u{85}\""
    );
}

#[test]
fn a_call_can_be_typed_as_it_stands() {
    let call = |scope: &[u8], key: &[u8]| {
        let identity = identity(b"charge", scope, key).unwrap();
        identity.call("idempotent_resolve", "'absent'")
    };
    assert_eq!(call(b"", b"k"), "SELECT idempotent_resolve('charge', 'k', 'absent')");
    assert_eq!(
        call(b"O'Hara", br"c:\k"),
        r"SELECT idempotent_resolve('charge', 'c:\k', 'absent', scope => 'O''Hara')"
    );
    // What cannot be typed exactly is not typed at all.
    assert_eq!(
        call("\u{202e}".as_bytes(), b"\xff"),
        "SELECT idempotent_resolve('charge', <key>, 'absent', scope => <scope>)"
    );
    assert_eq!(identity(b"o", b"", b"k").unwrap().call("f", ""), "SELECT f('o', 'k')");
}

#[test]
fn parts_are_returned_as_given() {
    let identity = identity(b"o", b"s", b"k").unwrap();
    assert_eq!(identity.operation(), b"o");
    assert_eq!(identity.scope(), b"s");
    assert_eq!(identity.key(), b"k");
    assert_eq!(check_operation(Some(b"o")), Ok(&b"o"[..]));
}

fn part(least: usize, most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(0x20..0x7f_u8, least..=most)
}

proptest! {
    /// Moving the border between two parts makes another identity: the lengths count.
    #[test]
    fn identities_are_told_apart(
        text in part(3, 60),
        borders in (1..30_usize, 0..30_usize),
        others in (1..30_usize, 0..30_usize),
    ) {
        let id = |(first, second): (usize, usize)| {
            let first = first.min(text.len() - 1);
            let second = (first + second).min(text.len() - 1);
            let parts = (&text[..first], &text[first..second], &text[second..]);
            (parts, identity(parts.0, parts.1, parts.2).unwrap().record_id())
        };
        let ((parts, one), (other_parts, other)) = (id(borders), id(others));
        prop_assert_eq!(one == other, parts == other_parts);
    }

    #[test]
    fn derived_keys_are_version_8_and_differ_by_label(
        id: [u8; 16],
        label: Vec<u8>,
        other: Vec<u8>,
    ) {
        let id = RecordId(id);
        let derived = id.derive(&label);
        prop_assert_eq!(derived[6] >> 4, 8);
        prop_assert_eq!(derived[8] >> 6, 0b10);
        prop_assert_eq!(derived == id.derive(&other), label == other);
    }

    /// Whatever comes in, what goes into a message is one line of visible text.
    #[test]
    fn descriptions_print(scope in prop::collection::vec(prop::sample::select(vec![
        "a", "\"", "\\", "'", "\u{e9}", "\u{85}", "\u{2028}", "\u{202e}", "\u{2066}", "\u{200f}",
    ].into_iter().map(str::as_bytes).chain([&b"\xff"[..]]).collect::<Vec<_>>()), 0..9)) {
        let scope = scope.concat();
        if let Ok(identity) = identity(b"o", &scope, b"k") {
            prop_assert!(!identity.describe().contains(disturbs));
            prop_assert!(!identity.call("f", "").contains(disturbs));
        }
    }
}
