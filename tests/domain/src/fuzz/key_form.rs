//! Keys that are UUIDs, against the `uuid` crate and the rule written down a second time.

use proptest::prelude::*;
use uuid::Uuid;

use crate::budget::hold;
use rules::identity::Identity;
use rules::key_form::Canonical;
use rules::policy::KeyForm;

/// The rule as the manual of Postgres has it: a hyphen may follow any group of four digits.
fn spelled(bits: u128, hyphens: u8, upper: u32, around: u8) -> String {
    let digits: String = format!("{bits:032x}")
        .chars()
        .enumerate()
        .map(|(at, digit)| if upper >> at & 1 == 1 { digit.to_ascii_uppercase() } else { digit })
        .collect();
    let groups: Vec<&str> = (0..8).map(|group| &digits[group * 4..group * 4 + 4]).collect();
    let mut text = String::new();
    for (at, group) in groups.iter().enumerate() {
        text.push_str(group);
        if at < 7 && hyphens >> at & 1 == 1 {
            text.push('-');
        }
    }
    match around % 4 {
        0 => format!("{{{text}}}"),
        1 => format!("urn:uuid:{text}"),
        _ => text,
    }
}

fn spellings() -> impl Strategy<Value = (u128, String)> {
    (any::<u128>(), any::<u8>(), any::<u32>(), any::<u8>())
        .prop_map(|(bits, hyphens, upper, around)| (bits, spelled(bits, hyphens, upper, around)))
}

#[test]
fn every_spelling_of_a_uuid_is_its_canonical_one() {
    hold(spellings(), |(bits, spelling)| {
        let canonical = Uuid::from_u128(bits).hyphenated().to_string();
        let found = Canonical::of(spelling.as_bytes());
        prop_assert_eq!(found.as_ref().map(Canonical::as_str), Some(&*canonical), "{}", spelling);
        let of = |key: &str| {
            let identity = Identity::new(Some(b"op"), Some(b"s"), Some(key.as_bytes()))
                .map_err(|error| TestCaseError::fail(error.to_string()))?;
            KeyForm::Uuid.respell(&identity).map_err(|error| TestCaseError::fail(error.to_string()))
        };
        prop_assert_eq!(of(&canonical)?, None);
        prop_assert_eq!(of(&spelling)?, found.filter(|_| spelling != canonical));
        Ok(())
    });
}

/// What the crate reads is read, as the same UUID; and what is read is the same text for the crate, hyphens aside.
#[test]
fn what_is_no_uuid_is_refused() {
    let broken = (spellings(), 0..48_usize, any::<u8>(), 0..3_u8).prop_map(
        |((_, spelling), at, byte, how)| {
            let mut key = spelling.into_bytes();
            match how {
                0 if at <= key.len() => key.insert(at, byte),
                1 if at < key.len() => drop(key.remove(at)),
                _ if at < key.len() => key[at] = byte,
                _ => {}
            }
            key
        },
    );
    let keys = prop_oneof![4 => broken, 1 => any::<Vec<u8>>(), 1 => "\\PC{30,38}".prop_map(String::into_bytes)];
    hold(keys, |key| {
        let text = std::str::from_utf8(&key).unwrap_or_default();
        let found = Canonical::of(&key);
        if let Ok(uuid) = Uuid::try_parse(text) {
            let canonical = uuid.hyphenated().to_string();
            prop_assert_eq!(found.as_ref().map(Canonical::as_str), Some(&*canonical), "{}", text);
        }
        if let Some(found) = found {
            let bare = text.to_ascii_lowercase();
            let bare = bare.strip_prefix("urn:uuid:").unwrap_or(&bare);
            let digits: String = bare.chars().filter(|c| !matches!(c, '-' | '{' | '}')).collect();
            prop_assert_eq!(
                Uuid::try_parse(&digits).unwrap().hyphenated().to_string(),
                found.as_str()
            );
            let groups = bare.trim_start_matches('{').trim_end_matches('}').split('-');
            prop_assert!(groups.into_iter().all(|group| !group.is_empty() && group.len() % 4 == 0));
        }
        Ok(())
    });
}
