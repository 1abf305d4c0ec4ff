//! The extension's calls as the suites write them: always operation `op`, always the same request, and the answer
//! picked apart.

use crate::wire::{Reply, Wire, quote};

const COLUMNS: &str = "outcome, fence, attempt, response, checkpoint, retry_after";

/// One `idempotent_result`, as far as the suites look at it; absent values are "".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub outcome: String,
    pub fence: String,
    pub attempt: String,
    pub response: String,
    pub checkpoint: String,
    pub retry_after: String,
}

impl Answer {
    #[track_caller]
    pub fn of(reply: &Reply) -> Self {
        let column = |at: usize| reply.row()[at].clone().unwrap_or_default();
        Self {
            outcome: column(0),
            fence: column(1),
            attempt: column(2),
            response: column(3),
            checkpoint: column(4),
            retry_after: column(5),
        }
    }

    #[track_caller]
    pub fn fence(&self) -> i64 {
        self.fence.parse().expect("a leased claim has a fence")
    }
}

/// `more` is further arguments, each with its comma: `, wait => '0'`.
pub fn claim(key: &str, more: &str) -> String {
    format!(r#"SELECT {COLUMNS} FROM idempotent_claim('op', {}, '{{"n": 1}}'{more})"#, quote(key))
}

pub fn complete(key: &str, answer: &str, more: &str) -> String {
    format!("SELECT idempotent_complete('op', {}, {}{more})", quote(key), quote(answer))
}

pub fn replay(key: &str) -> String {
    format!("SELECT {COLUMNS} FROM idempotent_replay('op', {})", quote(key))
}

impl Wire {
    /// Claims and reads the answer.
    #[track_caller]
    pub fn claim(&mut self, key: &str, more: &str) -> Answer {
        Answer::of(&self.run(&claim(key, more)))
    }

    /// Completes; the stored answer comes back.
    #[track_caller]
    pub fn complete(&mut self, key: &str, answer: &str, more: &str) -> String {
        self.run(&complete(key, answer, more)).value().to_owned()
    }

    #[track_caller]
    pub fn replay(&mut self, key: &str) -> Answer {
        Answer::of(&self.run(&replay(key)))
    }

    /// The answer to what was sent before.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        Answer::of(&self.receive().expect("the answer to what was sent"))
    }

    /// The SQLSTATE of what was sent before.
    #[track_caller]
    pub fn refused(&mut self) -> String {
        self.receive().expect("the answer to what was sent").code().to_owned()
    }
}

/// A claim, its answer and a look at it, as if nothing had been.
#[track_caller]
pub fn is_usable(wire: &mut Wire, key: &str) {
    wire.run("BEGIN");
    assert_eq!(wire.claim(key, "").outcome, "claimed", "{key}");
    wire.complete(key, "true", "");
    wire.run("COMMIT");
    assert_eq!(wire.replay(key).response, "true", "{key}");
}
