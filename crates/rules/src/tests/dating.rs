use proptest::prelude::*;

use super::*;

const HOUR: Micros = 3600 * 1_000_000;
/// 2025-01-01 00:00 UTC
const NOW: Timestamp = 789_004_800_000_000;
const RETENTION: Micros = 24 * HOUR;
const SKEW: Micros = 5_000_000;

/// The key that a clock makes at this time.
fn key_at(at: Timestamp) -> String {
    new_key(at - UNIX_EPOCH, [0x5a; 10])
}

fn dates(first_sent: Option<Timestamp>, key: &str) -> Dates {
    Dates::of(first_sent, key.as_bytes(), KeyDates::Use)
}

fn age(first_sent: Option<Timestamp>, key: &str) -> Age {
    dates(first_sent, key).age(NOW, &Kept::always(RETENTION, SKEW, Timestamp::MIN))
}

#[test]
fn what_earlier_settings_forgot_stays_forgotten() {
    let change = NOW - HOUR;
    let earlier = [Earlier { until: change, kept: HOUR / 2 }];
    let age = |sent, now| {
        let kept = Kept { earlier: &earlier, ..Kept::always(RETENTION, SKEW, Timestamp::MIN) };
        dates(Some(sent), "k").age(now, &kept)
    };
    let sent = change - 1;
    assert_eq!(age(sent, sent + HOUR / 2), Age::Fresh(sent));
    // Also what was stored right before the change, and goes after it.
    assert_eq!(age(sent, sent + HOUR / 2 + 1), Age::TooOld { since: sent });
    assert_eq!(age(change - HOUR, NOW), Age::TooOld { since: change - HOUR });
    assert_eq!(age(change, NOW), Age::Fresh(change));
    assert_eq!(age(change, NOW + RETENTION), Age::TooOld { since: change });
}

#[test]
fn what_was_sent_before_a_loss_may_have_been_lost() {
    let age = |first_sent, key: &str, lost_before| {
        dates(first_sent, key).age(NOW, &Kept::always(RETENTION, SKEW, lost_before))
    };
    let sent = NOW - HOUR;
    assert_eq!(age(Some(sent), "k", sent), Age::Fresh(sent));
    assert_eq!(age(Some(sent), "k", sent + 1), Age::Lost { since: sent });
    assert_eq!(age(None, &key_at(sent), sent + 1000), Age::Lost { since: sent });
    assert_eq!(age(None, "k", i64::MAX), Age::Undated);
    // What is refused anyway is refused for that.
    let old = NOW - RETENTION - SKEW - 1;
    assert_eq!(age(Some(old), "k", NOW), Age::TooOld { since: old });
    // No date, no loss.
    assert_eq!(age(Some(NOW + SKEW + 1), "k", i64::MAX), Age::Undated);
}

#[test]
fn the_example_of_the_rfc_is_dated() {
    // RFC 9562, appendix A.6: Tuesday, February 22, 2022 2:22:22.00 PM GMT-05:00
    let date = 698_872_942_000_000;
    assert_eq!(key_date(b"017F22E2-79B0-7CC3-98C4-DC0C0C07398F"), Some(date));
    assert_eq!(key_date(b"017f22e2-79b0-7cc3-98c4-dc0c0c07398f"), Some(date));
    assert_eq!(key_date(b"00000000-0000-7000-8000-000000000000"), Some(UNIX_EPOCH));
    assert_eq!(
        key_date(b"ffffffff-ffff-7fff-bfff-ffffffffffff"),
        Some(UNIX_EPOCH + LAST_MILLISECOND * 1000)
    );
}

#[test]
fn only_a_uuid_of_version_7_is_dated() {
    let undated: [&[u8]; 17] = [
        b"",
        b"order-1",
        // Other versions (4, 8) and variants (0xxx, 110x, 111x).
        b"017f22e2-79b0-4cc3-98c4-dc0c0c07398f",
        b"017f22e2-79b0-8cc3-98c4-dc0c0c07398f",
        b"017f22e2-79b0-7cc3-78c4-dc0c0c07398f",
        b"017f22e2-79b0-7cc3-c8c4-dc0c0c07398f",
        b"017f22e2-79b0-7cc3-f8c4-dc0c0c07398f",
        // Other spellings, and what is almost one.
        b"017f22e2-79b0-77c3-98c4-dc0c0c07398f0",
        b"017f22e2079b007cc3098c40dc0c0c07398f",
        b"017f22e279b07cc398c4dc0c0c07398f",
        b"{017f22e2-79b0-7cc3-98c4-dc0c0c07398f}",
        b"urn:uuid:017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
        b" 17f22e2-79b0-7cc3-98c4-dc0c0c07398f",
        b"017f22e2-79b0-7cc3-98c4-dc0c0c07398g",
        b"017f22e279b0-7cc3-98c4-dc0c0c07398f-",
        b"017f22e2-79b0-7cc3-98c4-dc0c0c07398",
        b"+17f22e2-79b0-7cc3-98c4-dc0c0c07398\xff",
    ];
    for key in undated {
        assert_eq!(key_date(key), None, "{}", String::from_utf8_lossy(key));
    }
}

#[test]
fn new_keys_are_golden() {
    let random = [0xff, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99];
    assert_eq!(new_key(1_645_557_742_000_000, random), "017f22e2-79b0-7003-a233-445566778899");
    // 999 us are 4091 of 4096 steps.
    assert_eq!(new_key(1_645_557_742_000_999, random), "017f22e2-79b0-7ffe-a233-445566778899");
    assert_eq!(new_key(1_645_557_742_000_500, [0; 10]), "017f22e2-79b0-7800-8000-000000000000");
    // What does not fit becomes the nearest that does.
    assert_eq!(new_key(i64::MIN, [0; 10]), "00000000-0000-7000-8000-000000000000");
    assert_eq!(new_key(i64::MAX, [0; 10]), "ffffffff-ffff-7ffb-8000-000000000000");
}

#[test]
fn an_age_has_sharp_edges() {
    let oldest = NOW - RETENTION - SKEW;
    let newest = NOW + SKEW;
    for first_sent in [oldest, oldest + 1, NOW, newest] {
        assert_eq!(age(Some(first_sent), "k"), Age::Fresh(first_sent));
    }
    assert_eq!(age(Some(oldest - 1), "k"), Age::TooOld { since: oldest - 1 });
    assert_eq!(age(Some(newest + 1), "k"), Age::Undated);
    assert_eq!(age(None, "k"), Age::Undated);
}

#[test]
fn a_key_dates_itself_to_the_millisecond() {
    let (oldest, newest) = (NOW - RETENTION - SKEW, NOW + SKEW);
    assert_eq!(age(None, &key_at(NOW)), Age::Fresh(NOW));
    assert_eq!(age(None, &key_at(NOW + 999)), Age::Fresh(NOW));
    assert_eq!(age(None, &key_at(oldest)), Age::Fresh(oldest));
    assert_eq!(age(None, &key_at(oldest - 1)), Age::TooOld { since: oldest - 1000 });
    assert_eq!(age(None, &key_at(newest)), Age::Fresh(newest));
    assert_eq!(age(None, &key_at(newest + 1000)), Age::Undated);
}

#[test]
fn a_dated_key_is_known_until_its_date_refuses_it() {
    let done = NOW;
    let kept = |sent| dates(sent, "k").kept_until(done, RETENTION, SKEW);
    assert_eq!(kept(None), done + RETENTION);
    for sent in [NOW, NOW - 1, NOW - SKEW, NOW + SKEW] {
        let until = kept(Some(sent));
        assert!(until >= done + RETENTION);
        let age =
            |now| dates(Some(sent), "k").age(now, &Kept::always(RETENTION, SKEW, Timestamp::MIN));
        assert_eq!(age(until), Age::TooOld { since: sent }, "{sent}");
    }
    // Long worked on: the retention counts from when it was done.
    assert_eq!(kept(Some(NOW - HOUR)), done + RETENTION);
    // What is no date keeps nothing.
    assert_eq!(kept(Some(i64::MAX)), done + RETENTION);
    assert_eq!(kept(Some(NOW + RETENTION + 1)), done + RETENTION);
}

#[test]
fn a_key_of_a_clock_ahead_is_known_until_its_date_refuses_it() {
    let ahead = 10 * SKEW;
    let key = dates(None, &key_at(NOW + ahead));
    assert_eq!(key.age(NOW, &Kept::always(RETENTION, SKEW, Timestamp::MIN)), Age::Undated);
    let until = key.kept_until(NOW, RETENTION, SKEW);
    let since = NOW + ahead;
    assert_eq!(
        key.age(until, &Kept::always(RETENTION, SKEW, Timestamp::MIN)),
        Age::TooOld { since }
    );
    assert_eq!(
        key.age(until - 1, &Kept::always(RETENTION, SKEW, Timestamp::MIN)),
        Age::Fresh(since)
    );
}

#[test]
fn whichever_date_comes_with_the_next_call_is_waited_for() {
    let (early, late) = (NOW - HOUR, NOW + SKEW);
    for dates in [dates(Some(early), &key_at(late)), dates(Some(late), &key_at(early))] {
        let until = dates.kept_until(NOW, RETENTION, SKEW);
        for one in [Some(early), Some(late)] {
            let age =
                self::dates(one, "k").age(until, &Kept::always(RETENTION, SKEW, Timestamp::MIN));
            assert!(matches!(age, Age::TooOld { .. }), "{age:?}");
        }
    }
}

#[test]
fn dates_of_keys_can_be_left_out_of_account() {
    let old = key_at(NOW - 2 * RETENTION);
    let ignoring = |first_sent| Dates::of(first_sent, old.as_bytes(), KeyDates::Ignore);
    assert_eq!(ignoring(None).age(NOW, &Kept::always(RETENTION, SKEW, i64::MAX)), Age::Undated);
    assert_eq!(ignoring(None).kept_until(NOW, RETENTION, SKEW), NOW + RETENTION);
    // What the caller says is not the key's.
    assert_eq!(ignoring(Some(NOW)).sent(NOW, SKEW), Some(NOW));
}

#[test]
fn the_earlier_date_counts() {
    let (old, new) = (key_at(NOW - 2 * RETENTION), key_at(NOW));
    let since = NOW - 2 * RETENTION;
    assert_eq!(age(Some(NOW), &old), Age::TooOld { since });
    assert_eq!(age(Some(since), &new), Age::TooOld { since });
    // One that is no date is not the earlier one.
    assert_eq!(age(Some(NOW + HOUR), &new), Age::Fresh(NOW));
    assert_eq!(age(Some(NOW), &key_at(NOW + HOUR)), Age::Fresh(NOW));
}

#[test]
fn a_date_further_ahead_than_clocks_are_off_is_none() {
    assert_eq!(age(None, &key_at(NOW + HOUR)), Age::Undated);
    assert_eq!(age(Some(NOW + HOUR), "k"), Age::Undated);
    // An md5 as a uuid that happens to look like version 7.
    assert_eq!(age(None, "9e107d9d-372b-7b68-9bd8-1d3542a419d6"), Age::Undated);
}

#[test]
fn infinities_are_ends_and_nothing_overflows() {
    assert_eq!(age(Some(i64::MIN), "k"), Age::TooOld { since: i64::MIN });
    assert_eq!(age(Some(i64::MAX), "k"), Age::Undated);
    for now in [i64::MIN, 0, i64::MAX] {
        for first_sent in [None, Some(i64::MIN), Some(0), Some(i64::MAX)] {
            for length in [0, i64::MAX] {
                let key = "ffffffff-ffff-7fff-bfff-ffffffffffff";
                let dates = dates(first_sent, key);
                let _ = dates.age(now, &Kept::always(length, length, now));
                let _ = dates.kept_until(now, length, length);
            }
        }
    }
}

proptest! {
    #[test]
    fn a_new_key_carries_its_time(micros in 0..=LAST_MILLISECOND * 1000 + 999, random: [u8; 10]) {
        let key = new_key(micros, random);
        prop_assert_eq!(key_date(key.as_bytes()), Some(UNIX_EPOCH + micros / 1000 * 1000));
        prop_assert_eq!(key.to_lowercase(), key);
    }

    #[test]
    fn later_keys_sort_later(
        micros in 0..LAST_MILLISECOND * 1000,
        later in prop_oneof![1..3_i64, 1..3000_i64],
        random: [u8; 10],
        other: [u8; 10],
    ) {
        prop_assert!(new_key(micros, random) < new_key(micros + later, other));
    }

    #[test]
    fn every_random_bit_used_shows(random: [u8; 10], at in 0..64_u32) {
        // 62 bits of rand_b and two of rand_a.
        let mut other = random;
        if at < 62 {
            let low = u64::from_be_bytes(random[2..].try_into().unwrap()) ^ (1 << at);
            other[2..].copy_from_slice(&low.to_be_bytes());
        } else {
            other[0] ^= 1 << (at - 62);
        }
        prop_assert_ne!(new_key(0, random), new_key(0, other));
    }

    #[test]
    fn any_bytes_are_a_key(key: Vec<u8>) {
        let _ = key_date(&key);
    }
}
