use super::*;
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
