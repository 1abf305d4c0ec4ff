//! What a client will try: a function of the seed alone. Which of it happens depends on the others.

mod draw;
pub mod patterns;
pub mod policies;
mod sagas;
pub mod topics;

pub use draw::Plan;

use serde::{Deserialize, Serialize};

use crate::history::Level;
use crate::settings::Change;
use patterns::PatternStep;

/// What a round is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mix {
    #[default]
    Everything,
    /// Leases of unlogged operations alone, mostly rolled back or left to lapse: hardly anything makes the server write
    /// its log, so that a crash loses as much as it may.
    Leases,
}

/// One of the few keys that are in play; which key that is changes when it is worn out.
pub type Slot = usize;

/// How many requests there are for a key; all but the first to come are mismatches.
pub const REQUESTS: u32 = 3;
/// The longest lease that is ever asked for.
pub const LONGEST_LEASE_MS: u64 = 600;
/// The longest wait that is ever asked for.
pub const LONGEST_WAIT_MS: u64 = 300;

/// What a client does before it turns to something else.
#[derive(Clone, Debug, PartialEq)]
pub enum Script {
    /// BEGIN, the steps, the end.
    Transaction { level: Level, steps: Vec<Step>, end: End },
    /// Work under a lease, over several transactions.
    Lease(Lease),
    /// One statement that commits by itself.
    Single(Step),
    /// Settles a transaction that somebody prepared.
    Settle { commit: bool },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    Claim {
        slot: Slot,
        asked: Asked,
        lease_ms: Option<u64>,
    },
    /// The business row; only for whoever holds the key.
    Effect {
        slot: Slot,
    },
    /// Completes or fails; only for whoever holds the key.
    Finish {
        slot: Slot,
        failed: bool,
    },
    Release {
        slot: Slot,
    },
    Run {
        slot: Slot,
        asked: Asked,
        declined: bool,
    },
    Replay {
        slot: Slot,
    },
    Seal {
        slot: Slot,
    },
    /// Completes a key that was never claimed.
    Unclaimed {
        slot: Slot,
    },
    Savepoint {
        name: u32,
    },
    RollbackTo {
        name: u32,
    },
    ReleaseSavepoint {
        name: u32,
    },
    Sweep,
    /// An administrator's; with the fence of the last lease that was granted, if that is to be broken.
    Forget {
        slot: Slot,
        breaks: bool,
    },
    /// An administrator's, of an operation whose settings change.
    Configure {
        operation: usize,
        change: Change,
    },
    /// A call of one of the patterns, which is about no key.
    Pattern(PatternStep),
}

/// How a key is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Asked {
    pub request: u32,
    pub wait_ms: u64,
    pub strict: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Commit,
    Rollback,
    /// PREPARE TRANSACTION, for somebody else to settle.
    Prepare,
    /// Throws the connection away.
    Abandon,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    pub slot: Slot,
    pub asked: Asked,
    pub lease_ms: u64,
    /// The transaction of the claim; `None`: it commits by itself.
    pub claimed_in: Option<(Level, End)>,
    /// Whether the attempt has a name by which a lost answer is asked for again.
    pub named: bool,
    pub beats: Vec<Beat>,
    pub ending: Ending,
}

/// What a holder does while the lease lasts, or so it thinks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Beat {
    Extend { lease_ms: u64 },
    Checkpoint,
    Pause { ms: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ending {
    /// Business row and completion in one transaction; tried once more when the answer to COMMIT is lost.
    Finish {
        level: Level,
        failed: bool,
        end: End,
    },
    /// The same, and then everything again with a fence that is worth nothing any more.
    Zombie {
        level: Level,
    },
    Release,
    /// Lets the lease lapse.
    Abandon,
}
