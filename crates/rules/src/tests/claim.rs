use super::*;
use crate::table::Table;

const NOW: Timestamp = 789_004_800_000_000;
const STATES: [(State, &str); 6] = [
    (State::InProgress, "p"),
    (State::Completed, "c"),
    (State::Failed, "f"),
    (State::Unknown, "u"),
    (State::Sealed, "s"),
    (State::Absent, "a"),
];
/// An end, and whether it is past: now is.
const ENDS: [(Timestamp, bool); 4] =
    [(i64::MIN, true), (NOW, true), (NOW + 1, false), (i64::MAX, false)];
const AGES: [(Age, &str); 4] = [
    (Age::Undated, "undated"),
    (Age::Fresh(NOW), "fresh"),
    (Age::TooOld { since: 0 }, "old"),
    (Age::Lost { since: 0 }, "lost"),
];

fn print(version: i16, byte: u8) -> Fingerprint {
    Fingerprint { version, digest: [byte; 16] }
}

fn record(state: State) -> Record {
    Record {
        state,
        fingerprint: Some(print(1, 1)),
        fence: Some(7),
        attempt: 3,
        attempt_id: None,
        lease_until: Some(NOW + 1_500_000),
        expires_at: NOW + 1,
        mine: false,
    }
}

const REQUEST: Request = Request {
    fingerprint: Some(Fingerprint { version: 1, digest: [1; 16] }),
    attempt_id: None,
    age: Age::Undated,
};

/// Every record that makes a difference.
fn records() -> Vec<(Record, &'static str)> {
    let mut all = Vec::new();
    let same = Some(print(1, 1));
    let prints = [None, same, Some(print(1, 2)), Some(print(2, 1)), Some(Fingerprint::ANY)];
    for (state, name) in STATES {
        for fingerprint in prints {
            for attempt_id in [None, Some([1; 16])] {
                for lease_until in [None].into_iter().chain(ENDS.map(|(end, _)| Some(end))) {
                    for (expires_at, _) in ENDS {
                        for mine in [false, true] {
                            let record = Record {
                                fingerprint,
                                attempt_id,
                                lease_until,
                                expires_at,
                                mine,
                                ..record(state)
                            };
                            all.push((record, name));
                        }
                    }
                }
            }
        }
    }
    all
}

fn requests() -> Vec<(Request, &'static str)> {
    let mut all = Vec::new();
    for (age, name) in AGES {
        for fingerprint in [None, Some(print(1, 1))] {
            for attempt_id in [None, Some([1; 16]), Some([2; 16])] {
                let request = Request { fingerprint, attempt_id, age };
                all.push((request, name));
            }
        }
    }
    all
}

/// The rules of the contract as a table, one row for each case: a record's state, when it expires,
/// its lease, whether the request is the same, whose it is, and the age of the key.
const RULES: &str = "
    state   expires      lease       request  whose         age            outcome
    ---
    -       *            *           *        *             undated|fresh  claim
    -       *            *           *        *             old            expired
    -       *            *           *        *             lost           unknown
    c|f|s|a past         *           *        *             undated|fresh  claim
    c|f|s|a past         *           *        *             old            expired
    c|f|s|a past         *           *        *             lost           unknown
    a       ahead|never  *           *        *             *              claim
    p       past         lapsed      *        *             undated|fresh  claim
    p       past         lapsed      *        *             old            expired
    p       past         lapsed      *        *             lost           unknown
    c       ahead|never  *           same     *             *              replay
    f       ahead|never  *           same     *             *              failure
    c|f     ahead|never  *           other    *             *              mismatch
    s       ahead|never  *           *        *             *              sealed
    u       *            *           same     *             *              unknown
    u       *            *           other    *             *              mismatch
    p       *            none|lasts  other    *             *              mismatch
    p       *            none|lasts  same     mine|attempt  *              held
    p       *            none|lasts  same     others        *              in_progress
    p       ahead|never  lapsed      other    *             *              mismatch
    p       ahead        lapsed      same     *             *              takeover
    p       never        lapsed      same     *             *              unknown
";

fn outcome(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Claim { attempt: 1, takeover: false } => "claim",
        Verdict::Claim { attempt: 4, takeover: true } => "takeover",
        Verdict::Claim { .. } => "a wrong claim",
        Verdict::Held => "held",
        Verdict::Replay { failed: false } => "replay",
        Verdict::Replay { failed: true } => "failure",
        Verdict::InProgress { .. } => "in_progress",
        Verdict::Mismatch => "mismatch",
        Verdict::Expired => "expired",
        Verdict::Unknown => "unknown",
        Verdict::Sealed => "sealed",
    }
}

#[test]
fn every_case_is_judged_by_the_rules() {
    let past = |end: Timestamp| ENDS.contains(&(end, true));
    let mut table = Table::new(RULES);
    let mut cases = 0;
    let records = records();
    let records = records.iter().map(|(record, state)| (Some(record), *state));
    for (record, state) in records.chain([(None, "-")]) {
        for (request, age) in requests() {
            {
                let mut facts = [state, "-", "-", "-", "-", age];
                if let Some(record) = record {
                    facts[1] = match record.expires_at {
                        Timestamp::MAX => "never",
                        end if past(end) => "past",
                        _ => "ahead",
                    };
                    facts[2] = match record.lease_until {
                        None => "none",
                        Some(end) if past(end) => "lapsed",
                        Some(_) => "lasts",
                    };
                    facts[3] = match (record.fingerprint, request.fingerprint) {
                        (None, None) => "same",
                        (Some(one), Some(other)) if one == other => "same",
                        (Some(Fingerprint::ANY), _) => "same",
                        _ => "other",
                    };
                    facts[4] = match (record.mine, record.attempt_id, request.attempt_id) {
                        (true, _, _) => "mine",
                        (false, Some(one), Some(other)) if one == other => "attempt",
                        _ => "others",
                    };
                }
                let verdict = judge(record, &request, NOW);
                assert_eq!(
                    outcome(verdict),
                    table.outcome(&facts),
                    "{facts:?}: {record:?}, {request:?}"
                );
                cases += 1;
            }
        }
    }
    table.assert_all_used();
    // 6 states, 5 fingerprints, 2 attempts, 5 leases, 4 expiries, mine or not; or no record.
    assert_eq!(cases, (6 * 5 * 2 * 5 * 4 * 2 + 1) * (4 * 2 * 3));
}

#[test]
fn a_caller_is_told_when_to_ask_again() {
    let ask = |lease_until, now| {
        let record = Record { lease_until, ..record(State::InProgress) };
        judge(Some(&record), &REQUEST, now)
    };
    let in_progress = |retry_after| Verdict::InProgress { retry_after };
    assert_eq!(ask(Some(NOW + 1), NOW), in_progress(1));
    assert_eq!(ask(Some(NOW + 5_000_000), NOW), in_progress(5_000_000));
    assert_eq!(ask(None, NOW), in_progress(RETRY_AFTER));
    // Far apart enough to overflow.
    assert_eq!(ask(Some(i64::MAX), -2), in_progress(i64::MAX));
}

#[test]
fn attempts_are_counted_as_far_as_they_can_be() {
    let record = Record { attempt: i32::MAX, lease_until: Some(NOW), ..record(State::InProgress) };
    assert_eq!(
        judge(Some(&record), &REQUEST, NOW),
        Verdict::Claim { attempt: i32::MAX, takeover: true }
    );
}

#[test]
fn states_are_bytes() {
    for (state, name) in STATES {
        assert_eq!(name.as_bytes(), [state.to_byte()]);
    }
    for byte in 0..=u8::MAX {
        let state = State::from_byte(byte);
        assert_eq!(state.is_some(), b"pcfusa".contains(&byte));
        assert!(state.is_none_or(|state| state.to_byte() == byte));
    }
}

fn identity() -> Identity<'static> {
    Identity::new(Some(b"charge"), Some(b"t1"), Some(b"k")).unwrap()
}

const DESCRIPTION: &str = r#"operation "charge", scope "t1", key "k""#;

/// An error as Postgres wants it: message, facts with the key, advice.
pub(crate) fn assert_well_formed(error: &Error) {
    let (detail, hint) = (error.detail.as_deref().unwrap(), error.hint.as_deref().unwrap());
    assert!(error.message.starts_with(char::is_lowercase), "{error:?}");
    assert!(!error.message.ends_with('.'), "{error:?}");
    assert!(detail.contains(DESCRIPTION), "{error:?}");
    for sentence in [detail, hint] {
        assert!(sentence.ends_with('.'), "{error:?}");
    }
    for text in [&error.message, detail, hint] {
        assert!(!text.contains("  ") && !text.contains('\n'), "{error:?}");
    }
}

#[test]
fn strict_raises_what_is_no_answer() {
    let raised = [
        (Verdict::InProgress { retry_after: 1_500_000 }, Code::InProgress, "wait => '2 seconds'"),
        (Verdict::Mismatch, Code::Mismatch, "SELECT idempotent_new_key()"),
        (Verdict::Expired, Code::Expired, "SELECT idempotent_new_key()"),
        (
            Verdict::Unknown,
            Code::Unknown,
            "SELECT idempotent_resolve('charge', 'k', 'completed', scope => 't1')",
        ),
        (Verdict::Sealed, Code::Sealed, "SELECT idempotent_new_key()"),
    ];
    for (verdict, code, hint) in raised {
        let error = strict_error(verdict, &identity()).unwrap();
        assert_eq!(error.code, code);
        assert_well_formed(&error);
        assert!(error.hint.as_ref().unwrap().contains(hint), "{error:?}");
    }
    for verdict in [
        Verdict::Claim { attempt: 1, takeover: false },
        Verdict::Held,
        Verdict::Replay { failed: false },
        Verdict::Replay { failed: true },
    ] {
        assert_eq!(strict_error(verdict, &identity()), None);
    }
}

#[test]
fn a_wait_is_told_in_whole_seconds_and_never_too_short() {
    let hint = |retry_after| {
        let error = strict_error(Verdict::InProgress { retry_after }, &identity()).unwrap();
        error.hint.unwrap()
    };
    assert!(hint(1).contains("in 1 second,"));
    assert!(hint(2_000_000).contains("in 2 seconds,"));
    assert!(hint(2_000_001).contains("in 3 seconds,"));
    assert!(hint(i64::MAX).contains("Call again in "));
}
