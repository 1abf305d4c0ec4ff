//! What a history is made of: one JSON object a line.
//!
//! First the setup and the keys, then every call in the order in which they ended, the faults between them, and last
//! the effects that are in the database when all is over.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Result;
use crate::nodes::Move;
use crate::pattern::{Pattern, Trace};
use crate::plan::Mix;
use crate::settings::Change;

/// Nanoseconds since the run began, on the clock of the clients' machine.
pub type Nanos = u64;
/// Number of a key, see [`Key`].
pub type KeyId = u32;
/// Number of a transaction, unique in the history; a statement outside BEGIN is one by itself.
pub type TxnId = u64;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum Line {
    Setup(Setup),
    Key(Key),
    Call(Event),
    Fault(Fault),
    Move(Move),
    Effect(Effect),
    Trace(Trace),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    pub seed: u64,
    /// When the clock of the history began, microseconds since 1970; 0: nobody knows.
    #[serde(default)]
    pub began_us: u64,
    pub mix: Mix,
    pub clients: u32,
    /// Each with slots of its own; 0 is one that answers for all.
    #[serde(default, skip_serializing_if = "is_first")]
    pub nodes: u32,
    pub operations: Vec<Operation>,
}

/// An operation's policy, as far as it decides what may happen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    pub name: String,
    pub logged: bool,
    /// What a lapsed lease leads to: `unknown`, or the next attempt.
    pub unknown_on_lapse: bool,
    /// Of answers and failures alike.
    pub retention_ms: u64,
    /// Whether a handler's P0001 is stored as a failure.
    pub stores_failures: bool,
    /// Whether administrators change what is said here; then it is how they begin.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub changes: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Key {
    pub id: KeyId,
    /// Index into the setup's operations.
    pub operation: usize,
    pub text: String,
    pub dating: Dating,
}

/// How a key says how old it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dating {
    #[default]
    None,
    /// It is a `UUIDv7`.
    Uuid,
    /// Every claim passes this `first_sent`, microseconds since 1970.
    FirstSent(u64),
}

impl Key {
    /// What it says of its age, microseconds since 1970.
    pub fn date_us(&self) -> Option<u64> {
        match self.dating {
            Dating::None => None,
            Dating::Uuid => {
                let hex = self.text.get(..13)?.replace('-', "");
                Some(u64::from_str_radix(&hex, 16).ok()? * 1000)
            }
            Dating::FirstSent(us) => Some(us),
        }
    }
}

/// One statement of a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Before the request was sent, and after the answer was read or known to be lost.
    pub start: Nanos,
    pub end: Nanos,
    pub client: u32,
    /// Which was asked.
    #[serde(default, skip_serializing_if = "is_first")]
    pub node: u32,
    /// When the server's shared memory was made, microseconds since 1970: another one after every crash. Of several nodes: how many
    /// crashes there were by then, of any of them; negative, and another one in each event, while one crashes.
    pub epoch: i64,
    pub txn: TxnId,
    /// Asked when all was over, to bring every key to an answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closing: bool,
    pub call: Call,
    pub outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    Begin {
        level: Level,
    },
    Commit,
    Rollback,
    Savepoint {
        name: u32,
    },
    RollbackTo {
        name: u32,
    },
    ReleaseSavepoint {
        name: u32,
    },
    Prepare {
        gid: String,
    },
    /// Of a transaction that was prepared before, by anybody.
    CommitPrepared {
        gid: String,
    },
    RollbackPrepared {
        gid: String,
    },
    Claim {
        key: KeyId,
        request: u32,
        lease_ms: Option<u64>,
        wait_ms: u64,
        attempt_id: Option<String>,
        strict: bool,
    },
    /// `effect` is the number of the effect and of the answer, should the handler run; a `declined` one raises P0001.
    Run {
        key: KeyId,
        request: u32,
        wait_ms: u64,
        effect: u64,
        declined: bool,
        strict: bool,
    },
    /// The business row.
    Effect {
        key: KeyId,
        effect: u64,
        fence: Option<i64>,
    },
    Complete {
        key: KeyId,
        answer: u64,
        effect: Option<u64>,
        failed: bool,
        fence: Option<i64>,
    },
    Release {
        key: KeyId,
        fence: Option<i64>,
    },
    Extend {
        key: KeyId,
        lease_ms: u64,
        fence: i64,
    },
    Checkpoint {
        key: KeyId,
        value: u64,
        fence: i64,
    },
    Seal {
        key: KeyId,
    },
    Replay {
        key: KeyId,
    },
    /// Reads the business row that belongs to an answer: how many there are.
    Look {
        key: KeyId,
        effect: u64,
    },
    /// Settles an unknown as completed with this answer, or as absent.
    Resolve {
        key: KeyId,
        answer: Option<u64>,
    },
    Sweep,
    /// An administrator's: deletes what is known of a key, and a lease if its fence is given.
    Forget {
        key: KeyId,
        fence: Option<i64>,
    },
    /// An administrator's, of one of the setup's operations.
    Configure {
        operation: usize,
        change: Change,
    },
    /// Of the patterns beside the core.
    Pattern(Pattern),
}

impl Call {
    /// What it is about: a key, or what has a number like one.
    pub fn key(&self) -> Option<KeyId> {
        match self {
            Self::Claim { key, .. }
            | Self::Run { key, .. }
            | Self::Effect { key, .. }
            | Self::Complete { key, .. }
            | Self::Release { key, .. }
            | Self::Extend { key, .. }
            | Self::Checkpoint { key, .. }
            | Self::Seal { key }
            | Self::Replay { key }
            | Self::Look { key, .. }
            | Self::Resolve { key, .. }
            | Self::Forget { key, .. } => Some(*key),
            Self::Pattern(pattern) => Some(pattern.subject()),
            _ => None,
        }
    }

    /// The request, of a call that brings one.
    pub fn request(&self) -> Option<u32> {
        match self {
            Self::Claim { request, .. } | Self::Run { request, .. } => Some(*request),
            _ => None,
        }
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// An `idempotent_result`.
    Row(Box<Row>),
    /// The command tag, or the value of what returns one.
    Done(String),
    /// The SQLSTATE.
    Refused(String),
    /// The connection was lost before the end of the answer: it may have happened.
    Lost,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub outcome: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Value>,
}

impl Outcome {
    pub fn row(&self) -> Option<&Row> {
        match self {
            Self::Row(row) => Some(row),
            _ => None,
        }
    }

    /// The outcome of a row, or "".
    pub fn said(&self) -> &str {
        self.row().map_or("", |row| &row.outcome)
    }

    /// The SQLSTATE, or "".
    pub fn code(&self) -> &str {
        match self {
            Self::Refused(code) => code,
            _ => "",
        }
    }

    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Row(_) | Self::Done(_))
    }

    pub fn is_done(&self, value: &str) -> bool {
        matches!(self, Self::Done(done) if done == value)
    }
}

/// What the injector did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    pub start: Nanos,
    pub end: Nanos,
    pub kind: FaultKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// A client's socket was cut.
    Cut,
    /// `pg_terminate_backend`.
    Terminate,
    /// `kill -9` of a backend: the server restarts all of them.
    Kill,
    /// `pg_ctl stop -m immediate`, and start.
    Immediate,
}

/// A row of the effect table, when all was over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    pub effect: u64,
    pub key: KeyId,
    pub client: u32,
    pub fence: Option<i64>,
    /// The epoch of the session that did it; the transaction may have been prepared, and committed in a later one.
    pub epoch: i64,
    /// By the database's clock, microseconds since 1970.
    pub at_us: u64,
}

/// A history in memory.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub setup: Setup,
    pub keys: Vec<Key>,
    /// In the order of their starts.
    pub events: Vec<Event>,
    pub faults: Vec<Fault>,
    /// In the order in which they ended.
    pub moves: Vec<Move>,
    pub effects: Vec<Effect>,
    pub traces: Vec<Trace>,
}

impl History {
    pub fn read(path: &Path) -> Result<Self> {
        let mut history = Self::default();
        for (number, line) in BufReader::new(File::open(path)?).lines().enumerate() {
            let line = serde_json::from_str(&line?)
                .map_err(|error| format!("{}:{}: {error}", path.display(), number + 1))?;
            history.push(line);
        }
        history.sort();
        Ok(history)
    }

    pub fn push(&mut self, line: Line) {
        match line {
            Line::Setup(setup) => self.setup = setup,
            Line::Key(key) => self.keys.push(key),
            Line::Call(event) => self.events.push(event),
            Line::Fault(fault) => self.faults.push(fault),
            Line::Move(moved) => self.moves.push(moved),
            Line::Effect(effect) => self.effects.push(effect),
            Line::Trace(trace) => self.traces.push(trace),
        }
    }

    pub fn sort(&mut self) {
        self.events.sort_by_key(|event| (event.start, event.end));
    }
}

// As serde wants it.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_first(node: &u32) -> bool {
    *node == 0
}

/// Writes one line.
pub fn write(out: &mut impl Write, line: &Line) -> Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")?;
    Ok(())
}
