use super::*;
use crate::table::Table;

/// Three steps, of which the first and the third can be undone.
const CAN_UNDO: [bool; 3] = [true, false, true];

const NEXT: &str = "
    state         step  did       next
    ---
    running       1     answered  running/2
    running       2     answered  running/3
    running       3     answered  completed/4
    running       1     failed    compensated/0
    running       2|3   failed    compensating/1
    compensating  3|2   *         compensating/1
    compensating  1     *         compensated/0
";

#[test]
fn a_step_leads_to_the_next_and_a_failure_back() {
    let mut table = Table::new(NEXT);
    for state in [State::Running, State::Compensating] {
        for step in 1..=3 {
            for (did, word) in [(Did::Answered, "answered"), (Did::Failed, "failed")] {
                let next = done(Position { state, step }, did, &CAN_UNDO);
                let expected = table.outcome(&[state.name(), &step.to_string(), word]);
                let seen = format!("{}/{}", next.state.name(), next.step);
                assert_eq!(seen, expected, "{state:?} {step} {did:?}");
            }
        }
    }
    table.assert_all_used();
}

const SETTLEMENTS: &str = "
    state                                        settlement                  did
    ---
    running                                      completed                   answered
    running                                      failed                      failed
    running                                      compensated|uncompensated   none
    compensating                                 compensated                 answered
    compensating                                 uncompensated               failed
    compensating                                 completed|failed            none
    completed|compensated                        *                           none
";

#[test]
fn an_administrator_settles_what_is_next_and_nothing_else() {
    let mut table = Table::new(SETTLEMENTS);
    for state in State::ALL {
        for settlement in Settlement::ALL {
            let seen = match settlement.did(state) {
                Some(Did::Answered) => "answered",
                Some(Did::Failed) => "failed",
                None => "none",
            };
            let expected = table.outcome(&[state.name(), settlement.name()]);
            assert_eq!(seen, expected, "{state:?} {settlement:?}");
            assert_eq!(Settlement::parse(settlement.name().as_bytes()), Some(settlement));
        }
    }
    table.assert_all_used();
    assert_eq!(Settlement::parse(b"done"), None);
}

#[test]
fn a_saga_without_compensations_is_undone_at_once() {
    let failed = done(Position { state: State::Running, step: 2 }, Did::Failed, &[false, false]);
    assert_eq!(failed, Position { state: State::Compensated, step: 0 });
}

#[test]
fn every_way_through_ends() {
    for steps in 1..=4_usize {
        for fails_at in 1..=steps + 1 {
            let can_undo = vec![true; steps];
            let mut at = Position { state: State::Running, step: 1 };
            let (mut ran, mut undone) = (vec![], vec![]);
            while !at.state.is_final() {
                let list = if at.state == State::Running { &mut ran } else { &mut undone };
                list.push(at.step);
                let fails = at.state == State::Running && at.step == fails_at;
                at = done(at, if fails { Did::Failed } else { Did::Answered }, &can_undo);
            }
            assert_eq!(ran, (1..=fails_at.min(steps)).collect::<Vec<_>>());
            let expected = if fails_at > steps { 0 } else { fails_at - 1 };
            assert_eq!(undone, (1..=expected).rev().collect::<Vec<_>>());
        }
    }
}

#[test]
fn states_are_told_by_their_names() {
    for state in State::ALL {
        assert_eq!(State::parse(state.name().as_bytes()), Some(state));
    }
    assert_eq!(State::parse(b""), None);
    assert_eq!(State::parse(b"Running"), None);
}

const NOW: Timestamp = 1_000_000;

const VERDICTS: &str = "
    state                    request  age                outcome
    ---
    none|expired             *        undated|fresh      start
    none|expired             *        old                expired
    running|compensating     same     *                  go_on
    completed|compensated    same     *                  replay
    running|compensating|completed|compensated  other  *  mismatch
";

#[test]
fn what_is_known_decides_and_else_the_age_of_the_key() {
    let mut table = Table::new(VERDICTS);
    let fingerprint = Fingerprint::of_bytes(b"request");
    let known = |state, expires_at| Known { fingerprint: Some(fingerprint), state, expires_at };
    let states = [
        ("none", None),
        ("expired", Some(known(State::Completed, Some(NOW)))),
        ("running", Some(known(State::Running, None))),
        ("compensating", Some(known(State::Compensating, None))),
        ("completed", Some(known(State::Completed, Some(NOW + 1)))),
        ("compensated", Some(known(State::Compensated, Some(NOW + 1)))),
    ];
    let ages =
        [("undated", Age::Undated), ("fresh", Age::Fresh(NOW)), ("old", Age::TooOld { since: 0 })];
    let other = Fingerprint::of_bytes(b"other");
    let requests = [("same", Some(fingerprint)), ("other", Some(other)), ("other", None)];
    for (state, known) in &states {
        for (request, asked) in requests {
            for (word, age) in ages {
                let seen = match judge(known.as_ref(), asked, age, NOW) {
                    Verdict::Start => "start",
                    Verdict::GoOn => "go_on",
                    Verdict::Replay => "replay",
                    Verdict::Mismatch => "mismatch",
                    Verdict::Expired => "expired",
                };
                assert_eq!(
                    seen,
                    table.outcome(&[state, request, word]),
                    "{state} {request} {word}"
                );
            }
        }
    }
    table.assert_all_used();
}
