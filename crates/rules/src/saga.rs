//! Where a saga stands: state + step + what the step did -> state + step.

use crate::Timestamp;
use crate::claim::{self, Verdict as OfKey};
use crate::dating::Age;
use crate::request::fingerprint::Fingerprint;

/// What becomes of a saga.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Steps are to be run.
    Running,
    /// A step failed for good: the steps before it are to be undone.
    Compensating,
    /// Every step is done.
    Completed,
    /// A step failed for good, and every step before it is undone.
    Compensated,
}

impl State {
    const ALL: [Self; 4] = [Self::Running, Self::Compensating, Self::Completed, Self::Compensated];

    /// As the table has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Compensating => "compensating",
            Self::Completed => "completed",
            Self::Compensated => "compensated",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn parse(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name().as_bytes() == name)
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Compensated)
    }
}

/// Where a saga stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// What becomes of it.
    pub state: State,
    /// The step to run or to compensate next, from 1; 0 or beyond the last: none.
    pub step: usize,
}

/// What came of a step or of a compensation, in the transaction that commits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    /// It answered.
    Answered,
    /// It failed for good. A compensation never does, unless an administrator gives it up.
    Failed,
}

/// What an administrator says became of the step, or of the compensation, that is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// The step is done.
    Completed,
    /// The step has failed for good.
    Failed,
    /// The compensation is done.
    Compensated,
    /// The compensation will not be done.
    Uncompensated,
}

impl Settlement {
    const ALL: [Self; 4] = [Self::Completed, Self::Failed, Self::Compensated, Self::Uncompensated];

    /// As callers spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Compensated => "compensated",
            Self::Uncompensated => "uncompensated",
        }
    }

    /// The settlement of that name.
    #[must_use]
    pub fn parse(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|settlement| settlement.name().as_bytes() == name)
    }

    /// What the step or the compensation then did; `None` if the saga is not at one of that kind.
    #[must_use]
    pub fn did(self, state: State) -> Option<Did> {
        match (state, self) {
            (State::Running, Self::Completed) | (State::Compensating, Self::Compensated) => {
                Some(Did::Answered)
            }
            (State::Running, Self::Failed) | (State::Compensating, Self::Uncompensated) => {
                Some(Did::Failed)
            }
            _ => None,
        }
    }
}

/// Where a saga stands once its step did that; `can_undo` says of each step whether it has a
/// compensation.
#[must_use]
pub fn done(at: Position, did: Did, can_undo: &[bool]) -> Position {
    if at.state == State::Running && did == Did::Answered {
        let step = at.step + 1;
        let state = if step > can_undo.len() { State::Completed } else { State::Running };
        return Position { state, step };
    }
    let before = &can_undo[..at.step.saturating_sub(1).min(can_undo.len())];
    match before.iter().rposition(|can| *can) {
        Some(index) => Position { state: State::Compensating, step: index + 1 },
        None => Position { state: State::Compensated, step: 0 },
    }
}

/// What is known of a saga that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Of the request that started it.
    pub fingerprint: Option<Fingerprint>,
    /// What becomes of it.
    pub state: State,
    /// Until when its answer counts; `None` while it is not finished.
    pub expires_at: Option<Timestamp>,
}

impl Known {
    /// Whether it counts as absent.
    #[must_use]
    pub fn expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// What a call is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is known of the key: its first step is next.
    Start,
    /// It is not finished: the step at which it stands is next.
    GoOn,
    /// It is finished: here is its answer.
    Replay,
    /// The key was used with another request.
    Mismatch,
    /// The key is older than the retention, and nothing is known of it.
    Expired,
}

/// Decides what a call is answered. Of a key that nothing is known of the same counts as for a
/// claim. Where a saga stands is never lost, so that no answer is unknown.
#[must_use]
pub fn judge(
    known: Option<&Known>,
    fingerprint: Option<Fingerprint>,
    age: Age,
    now: Timestamp,
) -> Verdict {
    let Some(known) = known.filter(|known| !known.expired(now)) else {
        let asked = claim::Request { fingerprint, attempt_id: None, age };
        return match claim::judge(None, &asked, now) {
            OfKey::Expired => Verdict::Expired,
            _ => Verdict::Start,
        };
    };
    if known.fingerprint != fingerprint {
        Verdict::Mismatch
    } else if known.state.is_final() {
        Verdict::Replay
    } else {
        Verdict::GoOn
    }
}

#[cfg(test)]
#[path = "tests/saga.rs"]
mod tests;
