//! Dates of keys, against the `uuid` crate and arithmetic in 128 bits.

use proptest::prelude::*;
use uuid::{Uuid, Variant};

use crate::budget::hold;
use rules::dating::{Age, Dates, Kept, key_date, new_key};
use rules::policy::KeyDates;
use rules::{Micros, Timestamp};

/// Seconds from 1970 to 2000.
const BETWEEN: i64 = 946_684_800;

/// The date of a key, by the crate.
fn crates_date(key: &[u8]) -> Option<Timestamp> {
    // The crate also reads braces, urn:uuid: and plain digits: those are no dated keys.
    let text = std::str::from_utf8(key).ok().filter(|text| text.len() == 36)?;
    let uuid = Uuid::try_parse(text).ok()?;
    let is_v7 = uuid.get_version_num() == 7 && uuid.get_variant() == Variant::RFC4122;
    let (seconds, nanos) = uuid.get_timestamp().filter(|_| is_v7)?.to_unix();
    Some((i64::try_from(seconds).ok()? - BETWEEN) * 1_000_000 + i64::from(nanos / 1000))
}

/// UUIDs of every version and variant, whole and with a byte changed; and anything else.
fn keys() -> BoxedStrategy<Vec<u8>> {
    let uuid = (
        any::<u128>(),
        prop_oneof![Just(7_u128), 0..16_u128],
        prop_oneof![Just(2_u128), 0..4_u128],
        any::<bool>(),
    )
        .prop_map(|(bits, version, variant, upper)| {
            let bits = bits & !(0xf << 76) & !(3 << 62) | version << 76 | variant << 62;
            let text = Uuid::from_u128(bits).hyphenated().to_string();
            if upper { text.to_uppercase() } else { text }.into_bytes()
        });
    let broken =
        (uuid.clone(), 0..37_usize, any::<u8>(), 0..4_u8).prop_map(|(mut key, at, byte, how)| {
            match how {
                0 => key.insert(at, byte),
                1 if at < 36 => drop(key.remove(at)),
                _ if at < 36 => key[at] = byte,
                _ => {}
            }
            key
        });
    prop_oneof![
        4 => uuid,
        4 => broken,
        1 => any::<u128>().prop_map(|bits| Uuid::from_u128(bits).simple().to_string().into_bytes()),
        1 => any::<u128>().prop_map(|bits| Uuid::from_u128(bits).braced().to_string().into_bytes()),
        // A ULID and its kin carry dates that nobody promised to read.
        1 => "[0-7][0-9A-HJKMNP-TV-Z]{25}".prop_map(String::into_bytes),
        1 => "\\PC{34,37}".prop_map(String::into_bytes),
        1 => any::<Vec<u8>>(),
    ]
    .boxed()
}

/// Times everywhere, and where they are awkward.
fn times() -> BoxedStrategy<Timestamp> {
    prop_oneof![
        any::<i64>(),
        -1_000_000..1_000_000_i64,
        Just(Timestamp::MIN),
        Just(Timestamp::MAX),
        Just(Timestamp::MAX - 1),
    ]
    .boxed()
}

fn lengths() -> BoxedStrategy<Micros> {
    prop_oneof![0..4_i64, 0..100_000_000_000_i64, Just(36_525 * 86_400_000_000)].boxed()
}

#[test]
fn keys_are_dated_as_the_uuid_crate_dates_them() {
    hold(keys(), |key| {
        prop_assert_eq!(key_date(&key), crates_date(&key), "{}", String::from_utf8_lossy(&key));
        Ok(())
    });
}

#[test]
fn new_keys_are_what_the_uuid_crate_calls_version_7() {
    hold((any::<i64>(), any::<[u8; 10]>()), |(micros, random)| {
        let key = new_key(micros, random);
        let uuid = Uuid::try_parse(&key).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!((uuid.get_version_num(), uuid.get_variant()), (7, Variant::RFC4122));
        prop_assert_eq!(uuid.hyphenated().to_string(), key.clone());
        let milliseconds = micros.clamp(0, (1 << 48) * 1000 - 1) / 1000;
        let (seconds, nanos) = uuid.get_timestamp().unwrap().to_unix();
        prop_assert_eq!(
            i128::from(seconds) * 1000 + i128::from(nanos / 1_000_000),
            i128::from(milliseconds)
        );
        prop_assert_eq!(key_date(key.as_bytes()), crates_date(key.as_bytes()));
        Ok(())
    });
}

#[test]
fn ages_are_right_at_the_ends_of_time() {
    let inputs = (prop::option::of(times()), keys(), times(), lengths(), lengths(), times());
    hold(inputs, |(first_sent, key, now, retention, skew, lost)| {
        let wide = i128::from;
        // Sums beyond the end of time stop there.
        let end = |sum: i128| sum.min(wide(i64::MAX));
        let earlier = first_sent.into_iter().chain(crates_date(&key)).min();
        let age = match earlier {
            None => Age::Undated,
            Some(date) if wide(date) > end(wide(now) + wide(skew)) => Age::Undated,
            Some(since)
                if (wide(now) - wide(since)).clamp(wide(i64::MIN), wide(i64::MAX))
                    > wide(retention) + wide(skew) =>
            {
                Age::TooOld { since }
            }
            Some(since) if since < lost => Age::Lost { since },
            Some(since) => Age::Fresh(since),
        };
        let dates = Dates::of(first_sent, &key, KeyDates::Use);
        prop_assert_eq!(dates.age(now, &Kept::always(retention, skew, lost)), age);
        Ok(())
    });
}

/// Between the end of a record and the date that refuses its key the key would run again.
#[test]
fn a_dated_key_is_refused_from_the_moment_its_record_may_go() {
    let years = 0..3_000_000_000_000_000_i64;
    let inputs = (years.clone(), years, lengths(), lengths(), prop_oneof![Just(0), lengths()]);
    hold(inputs, |(first_sent, now, retention, skew, later)| {
        let dates = Dates::of(Some(first_sent), b"k", KeyDates::Use);
        let until = dates.kept_until(now, retention, skew);
        let then = dates.age(until + later, &Kept::always(retention, skew, Timestamp::MIN));
        // So far ahead that it was no date, and still is none.
        let no_date = first_sent > now + retention.max(skew);
        prop_assert!(no_date || then == Age::TooOld { since: first_sent }, "{:?}", then);
        Ok(())
    });
}
