//! Sagas: callers go on with them, as a whole or step by step, and administrators end them.

use serde::{Deserialize, Serialize};

use crate::history::Outcome;

/// The steps are s0, s1, ..., each with a compensation.
pub const STEPS: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Saga {
    /// As far as it goes; each step commits by itself.
    Run {
        key: u32,
    },
    /// The next step, or the next compensation, in the caller's transaction. The number is that of the trace.
    Step {
        key: u32,
        number: u64,
    },
    /// The same, by an administrator who does not know the request.
    Resume {
        key: u32,
        number: u64,
    },
    /// From here on an administrator's.
    Abandon {
        key: u32,
    },
    Settle {
        key: u32,
        step: u32,
        verdict: Verdict,
    },
    Forget {
        key: u32,
        unfinished: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Completed,
    Failed,
    Compensated,
    Uncompensated,
}

impl Verdict {
    pub const ALL: [Self; 4] =
        [Self::Completed, Self::Failed, Self::Compensated, Self::Uncompensated];

    pub fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Compensated => "compensated",
            Self::Uncompensated => "uncompensated",
        }
    }
}

impl Saga {
    pub fn key(self) -> u32 {
        match self {
            Self::Run { key }
            | Self::Step { key, .. }
            | Self::Resume { key, .. }
            | Self::Abandon { key }
            | Self::Settle { key, .. }
            | Self::Forget { key, .. } => key,
        }
    }

    pub fn number(self) -> Option<u64> {
        match self {
            Self::Step { number, .. } | Self::Resume { number, .. } => Some(number),
            _ => None,
        }
    }

    /// The same, with the number of its trace.
    pub fn numbered(self, number: u64) -> Self {
        match self {
            Self::Step { key, .. } => Self::Step { key, number },
            Self::Resume { key, .. } => Self::Resume { key, number },
            other => other,
        }
    }

    /// Whether the call has run a step. Of compensations and refusals nobody is told apart.
    pub fn has_run(self, outcome: &Outcome) -> bool {
        match (self, outcome) {
            (Self::Step { .. } | Self::Resume { .. }, Outcome::Done(done)) => {
                done.starts_with("t|") && done.contains("|running|")
            }
            _ => false,
        }
    }
}

/// What was answered of a saga that has come to its end: `executed` or `replay`, and the answer.
pub fn end(saga: Saga, outcome: &Outcome) -> Option<(&str, &str)> {
    let Outcome::Done(done) = outcome else { return None };
    let rest = match saga {
        Saga::Run { .. } => done.as_str(),
        Saga::Step { .. } | Saga::Resume { .. } => done.strip_prefix("f|")?.rsplit_once("|at|")?.0,
        _ => return None,
    };
    let (said, answer) = rest.split_once('|')?;
    ["executed", "replay"].contains(&said).then_some((said, answer))
}
