//! Identities: what is refused, what is hashed, and what messages make of them.

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use crate::budget::hold;
use crate::names::{allowed, parts};
use rules::error::Code;
use rules::identity::{Identity, check_operation};
use rules::names::{MAX_KEY, MAX_OPERATION, MAX_SCOPE};

/// The inverse of what messages do to a part.
fn unescape(text: &str) -> Option<String> {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        if let Some(code) = after.strip_prefix("u{") {
            let (code, after) = code.split_once('}')?;
            plain.push(char::from_u32(u32::from_str_radix(code, 16).ok()?)?);
            rest = after;
        } else {
            plain.push(after.chars().next().filter(|c| matches!(c, '"' | '\\'))?);
            rest = &after[1..];
        }
    }
    plain.push_str(rest);
    Some(plain)
}

fn triples() -> BoxedStrategy<(Vec<u8>, Vec<u8>, Vec<u8>)> {
    let operation = prop_oneof![3 => Just(b"op".to_vec()), 2 => parts()];
    (operation, parts(), parts()).boxed()
}

#[test]
fn identities_are_read_or_refused_by_the_rule() {
    hold(triples(), |(operation, scope, key)| {
        let rule = allowed(&operation, 1, MAX_OPERATION)
            && allowed(&scope, 0, MAX_SCOPE)
            && allowed(&key, 1, MAX_KEY);
        prop_assert_eq!(
            check_operation(Some(&operation)).is_ok(),
            allowed(&operation, 1, MAX_OPERATION)
        );
        match Identity::new(Some(&operation), Some(&scope), Some(&key)) {
            Ok(identity) => {
                prop_assert!(rule);
                prop_assert_eq!(
                    (identity.operation(), identity.scope(), identity.key()),
                    (&operation[..], &scope[..], &key[..])
                );
            }
            Err(error) => {
                prop_assert!(!rule);
                prop_assert_eq!(error.code, Code::BadKey);
                // What was refused is not repeated, so nothing of it can disturb a log.
                let said = format!("{} {:?} {:?}", error.message, error.detail, error.hint);
                prop_assert!(said.is_ascii() && !said.contains('\n'));
            }
        }
        Ok(())
    });
}

/// With hyphens, by another implementation.
fn uuid_of_version_7(key: &[u8]) -> Option<uuid::Uuid> {
    let text = std::str::from_utf8(key).ok().filter(|text| text.len() == 36)?;
    let dated = uuid::Uuid::try_parse(text).ok()?;
    let is_dated = dated.get_version_num() == 7 && dated.get_variant() == uuid::Variant::RFC4122;
    is_dated.then_some(dated)
}

/// What is hashed: each part behind its length. It can be read back, so no two identities share it.
#[test]
fn record_ids_are_digests_of_what_can_be_read_back() {
    hold(triples(), |(operation, scope, key)| {
        let Ok(identity) = Identity::new(Some(&operation), Some(&scope), Some(&key)) else {
            return Ok(());
        };
        let mut encoded = Vec::new();
        for part in [&operation, &scope, &key] {
            encoded.extend([0, 0]);
            encoded.extend(u16::try_from(part.len()).unwrap().to_be_bytes());
            encoded.extend(part);
        }
        let mut rest = &encoded[..];
        for part in [&operation, &scope, &key] {
            let (length, after) = rest.split_at(4);
            let length = u32::from_be_bytes(length.try_into().unwrap());
            let (read, after) = after.split_at(usize::try_from(length).unwrap());
            prop_assert_eq!(read, &part[..]);
            rest = after;
        }
        prop_assert!(rest.is_empty());
        let id = identity.record_id();
        let mut digest = Sha256::digest(&encoded)[..16].to_vec();
        if let Some(dated) = uuid_of_version_7(&key) {
            digest[..6].copy_from_slice(&dated.as_bytes()[..6]);
        }
        prop_assert_eq!(&id.0[..], &digest[..]);
        let (high, low) = id.lock_key();
        prop_assert_eq!([high.to_be_bytes(), low.to_be_bytes()].concat(), id.0[8..].to_vec());
        let owner = if scope.is_empty() { &key } else { &scope };
        let [first, second, ..] = <[u8; 32]>::from(Sha256::digest(owner));
        prop_assert_eq!(identity.slot(), u16::from_be_bytes([first, second]) % 16_384);
        Ok(())
    });
}

#[test]
fn identities_differ_when_any_part_does() {
    hold((triples(), triples()), |(one, other)| {
        let id = |(operation, scope, key): &(Vec<u8>, Vec<u8>, Vec<u8>)| {
            Identity::new(Some(operation), Some(scope), Some(key))
                .map(|identity| identity.record_id())
                .ok()
        };
        if let (Some(id), Some(other_id)) = (id(&one), id(&other)) {
            prop_assert_eq!(id == other_id, one == other);
        }
        Ok(())
    });
}

#[test]
fn messages_can_be_read_back() {
    hold(triples(), |(operation, scope, key)| {
        let Ok(identity) = Identity::new(Some(&operation), Some(&scope), Some(&key)) else {
            return Ok(());
        };
        let lossy = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
        let described = identity.describe();
        prop_assert!(!described.contains(char::is_control), "{}", described);
        // Unescaped, the quotes within the parts are those without a backslash in front.
        let plain = format!(
            "operation \"{}\", scope \"{}\", key \"{}\"",
            lossy(&operation),
            lossy(&scope),
            lossy(&key)
        );
        prop_assert_eq!(unescape(&described), Some(plain));
        // A call names each part exactly, or does not pretend to.
        let call = identity.call("f", "");
        let literal = |part: &[u8], name: &str| {
            let quoted = format!("'{}'", lossy(part).replace('\'', "''"));
            [quoted, format!("<{name}>")]
        };
        let said = literal(&key, "key").iter().any(|text| call.contains(text.as_str()));
        prop_assert!(said && !call.contains(char::is_control), "{}", call);
        if std::str::from_utf8(&key).is_err() {
            prop_assert!(call.contains("<key>"), "{}", call);
        }
        Ok(())
    });
}

#[test]
fn derived_keys_are_what_they_are() {
    hold((any::<[u8; 16]>(), any::<Vec<u8>>()), |(id, label)| {
        let id = rules::identity::RecordId(id);
        let mut text = b"pg_idempotent derived key 1\0".to_vec();
        text.extend(id.0);
        text.extend(u64::try_from(label.len()).unwrap().to_be_bytes());
        text.extend(&label);
        let half: [u8; 16] = Sha256::digest(&text)[..16].try_into().unwrap();
        let uuid = uuid::Builder::from_custom_bytes(half).into_uuid();
        prop_assert_eq!(id.derive(&label), *uuid.as_bytes());
        Ok(())
    });
}
