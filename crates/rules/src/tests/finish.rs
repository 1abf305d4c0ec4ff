use super::*;
use crate::claim::tests::assert_well_formed;
use crate::table::Table;

const NOW: Timestamp = 789_004_800_000_000;
const FENCE: i64 = 7;

/// State, expiry and lease of the record, whether the caller's transaction wrote it, whether it
/// has a fence, and whether the one given is that.
const RULES: &str = "
    state  expires  lease       mine  fenced  given        verdict
    ---
    -      *        *           *     *       null         no_claim
    -      *        *           *     *       wrong        lost
    c|f|s  past     *           *     *       null         no_claim
    c|f|s  past     *           *     *       right|wrong  lost
    a      *        *           *     *       null         no_claim
    a      *        *           *     *       right|wrong  lost
    p      past     lapsed      *     *       null         no_claim
    p      past     lapsed      *     *       right|wrong  lost
    s      ahead    *           *     *       *            sealed
    c|f    ahead    *           *     *       right        finished
    c|f    ahead    *           *     yes     wrong        stale
    c|f    ahead    *           *     no      wrong        lost
    c|f    ahead    *           yes   no      null         finished
    c|f    ahead    *           no    no      null         no_claim
    c|f    ahead    *           *     yes     null         no_claim
    u      *        *           *     *       null         no_claim
    u      *        *           *     *       right        lapsed
    u      *        *           *     yes     wrong        stale
    u      *        *           *     no      wrong        lost
    p      *        none|lasts  *     *       right        valid
    p      *        none|lasts  *     yes     wrong        stale
    p      *        none|lasts  *     no      wrong        lost
    p      *        none|lasts  *     yes     null         missing
    p      *        none|lasts  yes   no      null         valid
    p      *        none|lasts  no    no      null         no_claim
    p      ahead    lapsed      *     *       right        lapsed
    p      ahead    lapsed      *     yes     wrong        stale
    p      ahead    lapsed      *     no      wrong        lost
    p      ahead    lapsed      *     yes     null         missing
    p      ahead    lapsed      yes   no      null         lapsed
    p      ahead    lapsed      no    no      null         no_claim
";

fn name(verdict: FenceVerdict) -> &'static str {
    match verdict {
        FenceVerdict::Valid => "valid",
        FenceVerdict::AlreadyFinished => "finished",
        FenceVerdict::Missing => "missing",
        FenceVerdict::Stale { current: None } => "lost",
        FenceVerdict::Stale { current: Some(FENCE) } => "stale",
        FenceVerdict::Stale { .. } => "stale of a wrong fence",
        FenceVerdict::Lapsed => "lapsed",
        FenceVerdict::NoClaim => "no_claim",
        FenceVerdict::Sealed => "sealed",
    }
}

#[test]
fn every_case_is_judged_by_the_rules() {
    let states = [
        (State::InProgress, "p"),
        (State::Completed, "c"),
        (State::Failed, "f"),
        (State::Unknown, "u"),
        (State::Sealed, "s"),
        (State::Absent, "a"),
    ];
    let leases = [
        (None, "none"),
        (Some(i64::MIN), "lapsed"),
        (Some(NOW), "lapsed"),
        (Some(NOW + 1), "lasts"),
        (Some(i64::MAX), "lasts"),
    ];
    let expiries = [(i64::MIN, "past"), (NOW, "past"), (NOW + 1, "ahead"), (i64::MAX, "ahead")];
    let mut table = Table::new(RULES);
    for given in [None, Some(FENCE), Some(FENCE - 1), Some(FENCE + 1)] {
        let told = if given.is_none() { "null" } else { "wrong" };
        assert_eq!(
            name(check_fence(None, given, NOW)),
            table.outcome(&["-", "-", "-", "-", "-", told])
        );
        for (state, state_name) in states {
            for (lease_until, lease) in leases {
                for (expires_at, expires) in expiries {
                    for (mine, mine_name) in [(false, "no"), (true, "yes")] {
                        for (fence, fenced) in [(None, "no"), (Some(FENCE), "yes")] {
                            let record = Record {
                                state,
                                fingerprint: None,
                                fence,
                                attempt: 1,
                                attempt_id: None,
                                lease_until,
                                expires_at,
                                mine,
                            };
                            let told = match (given, fence) {
                                (None, _) => "null",
                                (Some(FENCE), Some(FENCE)) => "right",
                                _ => "wrong",
                            };
                            let facts = [state_name, expires, lease, mine_name, fenced, told];
                            assert_eq!(
                                name(check_fence(Some(&record), given, NOW)),
                                table.outcome(&facts),
                                "{facts:?}: {record:?}, {given:?}"
                            );
                        }
                    }
                }
            }
        }
    }
    table.assert_all_used();
}

fn identity() -> Identity<'static> {
    Identity::new(Some(b"charge"), Some(b"t1"), Some(b"k")).unwrap()
}

#[test]
fn every_failure_is_an_error_that_helps() {
    let failures = [
        (FenceVerdict::Missing, Code::Fence, "fence => ..."),
        (FenceVerdict::Stale { current: None }, Code::Fence, "ROLLBACK"),
        (FenceVerdict::Stale { current: Some(9) }, Code::Fence, "ROLLBACK"),
        (FenceVerdict::Lapsed, Code::Fence, "ROLLBACK"),
        (FenceVerdict::Sealed, Code::Fence, "ROLLBACK"),
        (
            FenceVerdict::NoClaim,
            Code::NoClaim,
            "SELECT idempotent_claim('charge', 'k', scope => 't1')",
        ),
    ];
    for (verdict, code, hint) in failures {
        let error = fence_error(&verdict, &identity(), Some(7)).unwrap();
        assert_eq!(error.code, code, "{verdict:?}");
        assert_well_formed(&error);
        assert!(error.hint.as_ref().unwrap().contains(hint), "{error:?}");
    }
    for verdict in [FenceVerdict::Valid, FenceVerdict::AlreadyFinished] {
        assert_eq!(fence_error(&verdict, &identity(), Some(7)), None);
    }
}

#[test]
fn a_stale_fence_is_named_and_the_current_one_is_not() {
    let verdict = FenceVerdict::Stale { current: Some(123_456_789) };
    let error = fence_error(&verdict, &identity(), Some(7)).unwrap();
    assert!(error.detail.as_ref().unwrap().contains("fence 7 was given"), "{error:?}");
    assert!(!format!("{error:?}").contains("123456789"), "{error:?}");
}

#[test]
fn another_answer_is_refused() {
    for error in [other_answer_error(&identity()), finished_before_error(&identity())] {
        assert_eq!(error.code, Code::NoClaim);
        assert_well_formed(&error);
        let hint = error.hint.unwrap();
        assert!(hint.contains("SELECT idempotent_replay('charge', 'k', scope => 't1')"), "{hint}");
    }
}
