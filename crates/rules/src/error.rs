//! One error type: an SQLSTATE, what happened, the facts, and what to type.

use std::fmt;

/// The result of everything in the domain that can refuse.
pub type Result<T> = std::result::Result<T, Error>;

/// The HINT where something of the extension is missing, or not as it was made.
pub const DAMAGED: &str = "SELECT * FROM idempotent_doctor() says what is missing. DROP EXTENSION pg_idempotent; CREATE EXTENSION pg_idempotent; begins anew, and forgets every key, message and saga.";

/// Why something was refused. Each has one SQLSTATE; class `ID` is this extension's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// `ID001`: another caller holds the key.
    InProgress,
    /// `ID002`: the key was used with another request.
    Mismatch,
    /// `ID003`: the fence is missing, stale or lost.
    Fence,
    /// `ID004`: the key was first sent longer ago than the retention.
    Expired,
    /// `ID005`: it may have happened, and the store cannot tell.
    Unknown,
    /// `ID006`: a bad key, scope or operation.
    BadKey,
    /// `ID007`: finishing what was never claimed.
    NoClaim,
    /// `ID008`: it was decided that this never runs.
    Sealed,
    /// `ID009`: a transaction that claimed and did not finish wants to commit.
    Guard,
    /// `ID010`: the owner's slot is another node's.
    Slot,
    /// `40001`: retry the transaction.
    SerializationFailure,
    /// `40001`, too, when a unique constraint has refused a row. The row is there already, without all
    /// of its index entries: only a rollback ends that, so no other call may go on instead.
    LostInsert,
    /// `25006`: a standby cannot do this.
    ReadOnly,
    /// `22023`: an argument's value cannot be used.
    InvalidParameter,
    /// `42501`: not allowed.
    InsufficientPrivilege,
    /// `55000`: something outside is not ready.
    ObjectNotReady,
    /// `55006`: somebody works on it, or its handler is running in this very call.
    ObjectInUse,
    /// `55P03`: what is in the way has not ended within lock_timeout.
    LockNotAvailable,
    /// `42883`: no such function.
    UndefinedFunction,
    /// `42704`: no such saga.
    UndefinedObject,
    /// `42P01`: a table of the extension is missing.
    UndefinedTable,
    /// `0A000`: not supported here.
    FeatureNotSupported,
    /// `54000`: more than can be held.
    LimitExceeded,
    /// `53200`: no more memory.
    OutOfMemory,
    /// `23505`: two identities with one record id.
    Collision,
}

impl Code {
    /// The five characters that callers see.
    #[must_use]
    pub fn sqlstate(self) -> &'static str {
        match self {
            Self::InProgress => "ID001",
            Self::Mismatch => "ID002",
            Self::Fence => "ID003",
            Self::Expired => "ID004",
            Self::Unknown => "ID005",
            Self::BadKey => "ID006",
            Self::NoClaim => "ID007",
            Self::Sealed => "ID008",
            Self::Guard => "ID009",
            Self::Slot => "ID010",
            Self::SerializationFailure | Self::LostInsert => "40001",
            Self::ReadOnly => "25006",
            Self::InvalidParameter => "22023",
            Self::InsufficientPrivilege => "42501",
            Self::ObjectNotReady => "55000",
            Self::ObjectInUse => "55006",
            Self::LockNotAvailable => "55P03",
            Self::UndefinedFunction => "42883",
            Self::UndefinedObject => "42704",
            Self::UndefinedTable => "42P01",
            Self::FeatureNotSupported => "0A000",
            Self::LimitExceeded => "54000",
            Self::OutOfMemory => "53200",
            Self::Collision => "23505",
        }
    }
}

/// A refusal, in the shape of a Postgres error report.
///
/// The message is lower case without a full stop; detail (the facts) and hint (what to type) are
/// sentences. None of them ever holds a request or an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Why, for programs.
    pub code: Code,
    /// Why, for people.
    pub message: String,
    /// The facts: which key, how long, until when.
    pub detail: Option<String>,
    /// What to do, typed out where it can be.
    pub hint: Option<String>,
}

impl Error {
    /// An error with neither detail nor hint.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: None, hint: None }
    }

    /// The same error with these facts.
    #[must_use]
    pub fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    /// The same error with this advice.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
#[path = "tests/error.rs"]
mod tests;
