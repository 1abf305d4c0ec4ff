//! Verdicts on records of every shape, also those that no store would write.

use proptest::prelude::*;

use crate::budget::hold;
use rules::Timestamp;
use rules::claim::{Request, Verdict, judge, strict_error};
use rules::dating::Age;
use rules::finish::{FenceVerdict, check_fence, fence_error};
use rules::identity::Identity;
use rules::record::{Record, State};
use rules::request::fingerprint::Fingerprint;
use rules::retention::{Due, due};

fn times() -> BoxedStrategy<Timestamp> {
    prop_oneof![-3..3_i64, any::<i64>(), Just(i64::MIN), Just(i64::MAX)].boxed()
}

fn fingerprints() -> BoxedStrategy<Option<Fingerprint>> {
    let one = |version, byte| Some(Fingerprint { version, digest: [byte; 16] });
    prop::sample::select(vec![None, one(1, 1), one(1, 2), one(2, 1), Some(Fingerprint::ANY)])
        .boxed()
}

/// Often the same.
fn fences() -> BoxedStrategy<Option<i64>> {
    prop::option::weighted(0.8, prop_oneof![4 => 0..2_i64, 1 => any::<i64>()]).boxed()
}

fn records() -> BoxedStrategy<Record> {
    let state = prop::sample::select(b"pcfusa".to_vec());
    let attempt_id = || prop::option::of((0..2_u8).prop_map(|byte| [byte; 16]));
    let fence = fences();
    let attempt = prop_oneof![1..3_i32, any::<i32>(), Just(i32::MAX)];
    (
        state,
        fingerprints(),
        fence,
        attempt,
        attempt_id(),
        prop::option::of(times()),
        times(),
        any::<bool>(),
    )
        .prop_map(
            |(state, fingerprint, fence, attempt, attempt_id, lease_until, expires_at, mine)| {
                Record {
                    state: State::from_byte(state).unwrap(),
                    fingerprint,
                    fence,
                    attempt,
                    attempt_id,
                    lease_until,
                    expires_at,
                    mine,
                }
            },
        )
        .boxed()
}

fn ages() -> BoxedStrategy<Age> {
    prop_oneof![
        Just(Age::Undated),
        times().prop_map(Age::Fresh),
        times().prop_map(|since| Age::TooOld { since }),
        times().prop_map(|since| Age::Lost { since }),
    ]
    .boxed()
}

#[test]
fn a_claim_is_given_only_where_nothing_stands_in_its_way() {
    let request = (fingerprints(), prop::option::of((0..2_u8).prop_map(|byte| [byte; 16])), ages());
    hold((prop::option::of(records()), request, times()), |(record, request, now)| {
        let (fingerprint, attempt_id, age) = request;
        let request = Request { fingerprint, attempt_id, age };
        let verdict = judge(record.as_ref(), &request, now);
        let live = record.filter(|record| !record.expired(now));
        let undated_or_fresh = matches!(age, Age::Undated | Age::Fresh(_));
        match verdict {
            Verdict::Claim { attempt, .. } => {
                let free = match live {
                    None => undated_or_fresh && attempt == 1,
                    Some(record) => match record.state {
                        State::Absent => true,
                        State::InProgress => {
                            record.lapsed(now)
                                && record.expires_at != Timestamp::MAX
                                && attempt >= record.attempt
                        }
                        _ => false,
                    },
                };
                prop_assert!(free);
            }
            // Another request learns nothing but that it is another.
            Verdict::Replay { .. } | Verdict::InProgress { .. } | Verdict::Held => {
                let record = live.unwrap();
                prop_assert!(
                    record.fingerprint == fingerprint
                        || record.fingerprint == Some(Fingerprint::ANY)
                );
            }
            _ => {}
        }
        if let Verdict::InProgress { retry_after } = verdict {
            prop_assert!(retry_after > 0);
        }
        let identity = Identity::new(Some(b"op"), Some(b""), Some(b"k")).unwrap();
        let _ = strict_error(verdict, &identity);
        Ok(())
    });
}

#[test]
fn a_fence_is_good_only_for_the_live_claim_that_it_was_given_for() {
    hold((prop::option::of(records()), fences(), times()), |(record, given, now)| {
        let verdict = check_fence(record.as_ref(), given, now);
        if verdict == FenceVerdict::Valid {
            let record = record.unwrap();
            prop_assert!(
                record.state == State::InProgress && !record.lapsed(now) && !record.expired(now)
            );
            prop_assert!(record.fence == given && (given.is_some() || record.mine));
        }
        let identity = Identity::new(Some(b"op"), Some(b""), Some(b"k")).unwrap();
        let harmless = matches!(verdict, FenceVerdict::Valid | FenceVerdict::AlreadyFinished);
        prop_assert_eq!(fence_error(&verdict, &identity, given).is_none(), harmless);
        Ok(())
    });
}

#[test]
fn a_sweep_deletes_what_counts_as_absent_and_nothing_else() {
    hold((records(), any::<bool>(), times()), |(record, has_body, now)| {
        let verdict = due(&record, has_body, now);
        prop_assert_eq!(verdict == Due::Delete, record.expired(now));
        let held = record.state == State::InProgress && !record.lapsed(now)
            || record.state == State::Unknown;
        prop_assert!(!held || verdict == Due::Nothing);
        Ok(())
    });
}
