use super::*;

#[test]
fn an_extended_lease_is_looked_at_when_it_was_to_be_until_that_is_much_too_early() {
    // before, expires_at, now -> due
    for (before, expires_at, now, due) in [
        (800, 800, 0, 800),
        (800, 900, 0, 800),
        (800, 914, 0, 800),
        (800, 915, 0, 915),
        (800, 915, 100, 915),
        (800, 700, 0, 700),
        (Timestamp::MAX, Timestamp::MAX, 0, Timestamp::MAX),
        (0, 800, 700, 800),
    ] {
        assert_eq!(extended_lease_due(before, expires_at, now), due, "{before} {expires_at} {now}");
    }
}
use crate::policy::KeyDates;
use crate::table::Table;

const NOW: Timestamp = 789_004_800_000_000;

const RULES: &str = "
    state  expires  lease       body  due
    ---
    c|f    past     *           *     delete
    s|a    past     *           *     delete
    p      past     lapsed      *     delete
    p      past     none|lasts  *     nothing
    u      past     *           *     nothing
    c|f    ahead    *           yes   evict
    c|f    ahead    *           no    nothing
    s|a    ahead    *           *     nothing
    p|u    ahead    *           *     nothing
";

#[test]
fn only_what_counts_as_absent_is_deleted_and_only_answers_are_evicted() {
    let mut table = Table::new(RULES);
    for state in *b"pcfusa" {
        for (expires_at, expires) in [(i64::MIN, "past"), (NOW, "past"), (NOW + 1, "ahead")] {
            for (lease_until, lease) in
                [(None, "none"), (Some(NOW), "lapsed"), (Some(NOW + 1), "lasts")]
            {
                for (has_body, body) in [(false, "no"), (true, "yes")] {
                    let record = Record {
                        state: State::from_byte(state).unwrap(),
                        fingerprint: None,
                        fence: None,
                        attempt: 1,
                        attempt_id: None,
                        lease_until,
                        expires_at,
                        mine: false,
                    };
                    let name = match due(&record, has_body, NOW) {
                        Due::Delete => "delete",
                        Due::Evict => "evict",
                        Due::Nothing => "nothing",
                    };
                    let state = std::str::from_utf8(std::slice::from_ref(&state)).unwrap();
                    let facts = [state, expires, lease, body];
                    assert_eq!(name, table.outcome(&facts), "{facts:?}");
                }
            }
        }
    }
    table.assert_all_used();
}

#[test]
fn a_record_is_looked_at_soon_after_it_expires_and_never_before() {
    for kept in [0, 1, 999, 65_536, 300_000_000, 86_400_000_000, 3_155_760_000_000_000] {
        for now in [NOW, -NOW, NOW + 12_345_678_901] {
            let late = after(now + kept, now) - (now + kept);
            assert!((0..=kept / 65_536).contains(&late), "{kept} {late}");
        }
    }
    assert_eq!(after(Timestamp::MAX, NOW), Timestamp::MAX);
    assert_eq!(after(Timestamp::MIN, NOW), Timestamp::MIN);
}

#[test]
fn records_that_are_kept_for_a_day_and_expire_within_a_second_are_looked_at_together() {
    let day = 86_400_000_000;
    let within_a_second = (0..1_000).map(|n| after(NOW + n * 1_000 + day, NOW + n * 1_000));
    let moments: std::collections::BTreeSet<_> = within_a_second.collect();
    assert!(moments.len() <= 2, "{moments:?}");
}

const DAY: Micros = 86_400_000_000;
const SKEW: Micros = 5_000_000;

#[test]
fn an_answer_is_kept_as_the_call_says_or_as_its_operation() {
    let policy = Policy::default();
    let at = |failed, given, sent| {
        let dates = Dates::of(sent, b"k", KeyDates::Use);
        answer_expires(&policy, failed, given, dates, NOW, SKEW) - NOW
    };
    assert_eq!(at(false, None, None), DAY);
    assert_eq!(at(true, None, None), policy.failure_retention);
    assert_eq!(at(false, Some(7), None), 7);
    assert_eq!(at(true, Some(7), Some(NOW)), 7);
    // Until the date alone refuses the key.
    assert_eq!(at(false, None, Some(NOW + SKEW)), DAY + 2 * SKEW + 1);
    assert_eq!(at(false, None, Some(NOW - DAY)), DAY);
}

#[test]
fn a_body_is_due_before_its_record_or_not_at_all() {
    let policy = |kept| Policy { response_retention: kept, ..Policy::default() };
    let expires_at = NOW + DAY;
    assert_eq!(answer_due(&policy(Some(10)), NOW, expires_at), NOW + 10);
    for kept in [None, Some(DAY), Some(2 * DAY)] {
        assert_eq!(answer_due(&policy(kept), NOW, expires_at), after(expires_at, NOW));
    }
    assert!(body_is_over(NOW, expires_at, NOW));
    assert!(!body_is_over(NOW + 1, expires_at, NOW));
    assert!(!body_is_over(NOW, NOW, NOW));
}

#[test]
fn a_lapsed_lease_is_kept_for_the_retention_and_an_unknown_one_for_ever() {
    let policy = |on_lapse| Policy { on_lapse, ..Policy::default() };
    let dates = |sent| Dates::of(sent, b"k", KeyDates::Use);
    let granted = |on_lapse, end, sent| lease_expires(&policy(on_lapse), end, dates(sent), SKEW);
    assert_eq!(granted(OnLapse::Retry, NOW, None), NOW + DAY);
    assert_eq!(granted(OnLapse::Unknown, NOW, None), Timestamp::MAX);
    // Until the date refuses the key: in between it would run again, as a new one.
    assert_eq!(granted(OnLapse::Retry, NOW, Some(NOW - 1)), NOW + DAY + SKEW);
    assert_eq!(granted(OnLapse::Retry, NOW, Some(NOW - DAY)), NOW + DAY);
    assert_eq!(absent_expires(&policy(OnLapse::Retry), NOW, SKEW), NOW + DAY + SKEW);
    assert_eq!(granted(OnLapse::Retry, Timestamp::MAX, None), Timestamp::MAX - 1);
    // What the lease was granted under counts, when it is extended under another setting.
    let extended = |before, on_lapse| {
        extended_lease_expires(before, &policy(on_lapse), NOW, dates(None), SKEW)
    };
    assert_eq!(extended(Timestamp::MAX, OnLapse::Retry), Timestamp::MAX);
    assert_eq!(extended(NOW, OnLapse::Retry), NOW + DAY);
    assert_eq!(extended(NOW, OnLapse::Unknown), Timestamp::MAX);
}

#[test]
fn visits_that_fail_become_rarer_up_to_once_an_hour() {
    let (second, hour) = (1_000_000, 3_600_000_000);
    assert_eq!(back_off(10 * second, 0), 10 * second);
    assert_eq!(back_off(10 * second, 3), 80 * second);
    assert_eq!(back_off(10 * second, 63), hour);
    assert_eq!(back_off(10 * second, 64), hour);
    assert_eq!(back_off(24 * hour, 1), 24 * hour);
}
