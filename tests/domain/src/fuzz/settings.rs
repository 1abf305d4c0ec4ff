//! Settings of an operation, from whatever callers pass.

use proptest::prelude::*;

use crate::budget::hold;
use rules::duration::{duration, interval_micros};
use rules::error::{Code, Error};
use rules::policy::{AfterReset, Durability, OnLapse};
use rules::request::exclude::Exclusions;
use rules::store_failures::StoreFailures;

/// One visible line, whatever was passed.
fn check_refusal(error: &Error) -> Result<(), TestCaseError> {
    prop_assert_eq!(error.code, Code::InvalidParameter);
    let said = format!(
        "{}{}{}",
        error.message,
        error.detail.as_deref().unwrap_or(""),
        error.hint.as_deref().unwrap_or("")
    );
    prop_assert!(!said.contains(char::is_control), "{:?}", said);
    Ok(())
}

/// Microseconds of `1500 ms`, as a refusal spells a length of time.
fn read(text: &str) -> Option<i128> {
    let (count, unit) = text.split_once(' ')?;
    let size: i128 =
        match unit.strip_suffix('s').filter(|_| unit != "ms" && unit != "us").unwrap_or(unit) {
            "day" => 86_400_000_000,
            "hour" => 3_600_000_000,
            "minute" => 60_000_000,
            "second" => 1_000_000,
            "ms" => 1000,
            "us" => 1,
            _ => return None,
        };
    Some(count.parse::<i128>().ok()? * size)
}

#[test]
fn intervals_are_added_up_or_refused() {
    let ends = || prop_oneof![any::<i32>(), -3..3_i32, Just(i32::MIN), Just(i32::MAX)];
    let micros = prop_oneof![
        any::<i64>(),
        -5..5_i64,
        Just(i64::MIN),
        Just(i64::MAX),
        (-200..200_i64).prop_map(|n| n * 1_000_000)
    ];
    let least = prop_oneof![Just(0_i64), Just(1), Just(1_000_000)];
    hold((ends(), ends(), micros, least), |(months, days, micros, least)| {
        let sum =
            (i128::from(months) * 30 + i128::from(days)) * 86_400_000_000 + i128::from(micros);
        prop_assert_eq!(
            interval_micros(months, days, micros).map(i128::from),
            i64::try_from(sum).ok().map(i128::from)
        );
        match duration("lease", months, days, micros, least) {
            Ok(length) => {
                prop_assert_eq!(i128::from(length), sum);
                prop_assert!((i128::from(least)..=36_525 * 86_400_000_000).contains(&sum));
            }
            Err(error) => {
                check_refusal(&error)?;
                prop_assert!(!(i128::from(least)..=36_525 * 86_400_000_000).contains(&sum));
                let detail = error.detail.unwrap_or_default();
                if i64::try_from(sum).is_ok() {
                    let said = detail.trim_start_matches("It is ").trim_end_matches('.');
                    prop_assert_eq!(read(said), Some(sum), "{}", detail);
                }
            }
        }
        Ok(())
    });
}

#[test]
fn sqlstates_are_stored_by_the_rule() {
    let entry = || {
        prop_oneof![4 => "[0-9A-Za-z]{5}", 4 => "[0-9A-Za-z]{2}", 2 => "(08|40|53|55|57|58|ID|XX|00|23|22)(P03|000|[0-9]{3})?", 1 => "\\PC{0,6}"]
        .prop_map(String::into_bytes)
    };
    let entry = || prop_oneof![9 => entry(), 1 => any::<Vec<u8>>()];
    let state = "(08|40|53|55|57|58|ID|XX|00|23|22|P0|[0-9A-Z]{2})(P03|000|001|[0-9A-Z]{3})";
    hold((prop::collection::vec(entry(), 0..4), state), |(entries, state)| {
        let never = |state: &str| {
            ["08", "40", "53", "57", "58", "ID", "XX", "00"]
                .iter()
                .any(|class| state.get(..2) == Some(*class))
                || state == "55P03"
        };
        let readable = |entry: &Vec<u8>| {
            let text = String::from_utf8(entry.clone()).ok()?.to_uppercase();
            let sound = (text.len() == 2 || text.len() == 5)
                && text.chars().all(|c| c.is_ascii_digit() || c.is_ascii_uppercase());
            (sound && entry.is_ascii() && !never(&text)).then_some(text)
        };
        let read: Option<Vec<String>> = entries.iter().map(readable).collect();
        match (StoreFailures::parse(&entries), read) {
            (Ok(parsed), Some(read)) => {
                let stored = !never(&state)
                    && read.iter().any(|entry| *entry == state || *entry == state[..2]);
                prop_assert_eq!(parsed.matches(&state), stored, "{:?} {}", read, state);
                prop_assert_eq!(parsed.is_empty(), entries.is_empty());
            }
            (Err(error), None) => check_refusal(&error)?,
            (parsed, read) => prop_assert!(false, "{:?}, but by the rule {:?}", parsed, read),
        }
        Ok(())
    });
}

#[test]
fn exclusions_are_read_by_the_rule() {
    let entry =
        prop_oneof![4 => "/?[/~01a]{0,6}".prop_map(String::into_bytes), 1 => any::<Vec<u8>>()];
    hold(prop::collection::vec(entry, 0..5), |entries| {
        let sound = |entry: &Vec<u8>| match entry.first() {
            None => false,
            Some(b'/') => (0..entry.len())
                .all(|at| entry[at] != b'~' || matches!(entry.get(at + 1), Some(b'0' | b'1'))),
            Some(_) => true,
        };
        match Exclusions::parse(&entries) {
            Ok(parsed) => {
                prop_assert!(entries.iter().all(sound));
                let mut again = entries.clone();
                again.reverse();
                again.extend(entries);
                prop_assert_eq!(Exclusions::parse(again).unwrap(), parsed);
            }
            Err(error) => {
                prop_assert!(!entries.iter().all(sound));
                check_refusal(&error)?;
            }
        }
        Ok(())
    });
}

#[test]
fn words_are_chosen_in_either_case_or_refused() {
    let word = prop_oneof![
        4 => "(?i:logged|unlogged|retry|unknown|execute)".prop_map(String::into_bytes),
        1 => "(logged|unknown)[ \0s]?".prop_map(String::into_bytes),
        1 => any::<Vec<u8>>(),
    ];
    hold(word, |word| {
        let lower = word.to_ascii_lowercase();
        let among = |choices: [&str; 2]| choices.iter().any(|choice| choice.as_bytes() == lower);
        let read = [
            (Durability::parse(&word).map(Durability::as_str), ["unlogged", "logged"]),
            (OnLapse::parse(&word).map(OnLapse::as_str), ["retry", "unknown"]),
            (AfterReset::parse(&word).map(AfterReset::as_str), ["unknown", "execute"]),
        ];
        for (read, choices) in read {
            prop_assert_eq!(read.is_ok(), among(choices));
            match read {
                Ok(name) => prop_assert_eq!(name.as_bytes(), &lower[..]),
                Err(error) => check_refusal(&error)?,
            }
        }
        Ok(())
    });
}
