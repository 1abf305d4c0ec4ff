//! Errors by the SQLSTATE of the extension and by the answer that HTTP gives for them. None says a key, a scope or a body: messages end up in logs.

use std::{error, fmt, time::Duration};

use super::database::DatabaseError;

/// What a handler fails with: any error.
pub type BoxError = Box<dyn error::Error + Send + Sync>;

/// Why a call has no answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// Another attempt holds the key, and the wait has run out.
    InProgress {
        /// When to ask again.
        retry_after: Duration,
    },
    /// The key was used with another request.
    Mismatch,
    /// The lease was lost; nothing is stored.
    LeaseLost,
    /// The key is older than the retention.
    Expired,
    /// It may have happened, and nobody can tell: an administrator calls `idempotent_resolve`.
    Unknown,
    /// The operation, the key or the scope breaks the rules of names.
    InvalidKey(DatabaseError),
    /// It was decided that this never runs.
    Sealed,
    /// The key belongs to another node.
    Misrouted,
    /// The work is done, and its answer is not kept: it was too large, or is past its retention.
    Evicted {
        /// The status that was stored with the answer.
        status: Option<u16>,
    },
    /// The extension is not in this database, or not in the search_path.
    NotInstalled(DatabaseError),
    /// The database could not be reached, or every try met a conflict. Nothing is known to have happened: send the same key again.
    Unavailable(BoxError),
    /// A call within a handler of the same pool would wait for a second connection while it holds one.
    Nested,
    /// The transaction has ended: this handle of it was kept for longer.
    Ended,
    /// The layer's function has no scope for a request: nobody knows whose key it is.
    NoScope,
    /// The request or the answer is no JSON, or the stored answer is not of the type that is asked for.
    Json(serde_json::Error),
    /// What the handler failed with. What it wrote is rolled back.
    Handler(BoxError),
    /// Anything else that the database refused.
    Database(DatabaseError),
}

impl Error {
    /// As the extension raises it with `strict`; else the SQLSTATE of the cause.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::InProgress { .. } => Some("ID001"),
            Self::Mismatch => Some("ID002"),
            Self::LeaseLost => Some("ID003"),
            Self::Expired => Some("ID004"),
            Self::Unknown => Some("ID005"),
            Self::InvalidKey(_) => Some("ID006"),
            Self::Sealed => Some("ID008"),
            Self::Misrouted => Some("ID010"),
            Self::Unavailable(_) => Some("08000"),
            Self::Handler(cause) => state_of(cause.as_ref()).and_then(|state| state.sqlstate),
            Self::NotInstalled(cause) | Self::Database(cause) => cause.sqlstate(),
            Self::Evicted { .. } | Self::Nested | Self::Ended | Self::NoScope | Self::Json(_) => {
                None
            }
        }
    }

    /// What an HTTP server answers.
    pub fn http_status(&self) -> u16 {
        match self {
            Self::InProgress { .. } | Self::Unknown | Self::Sealed => 409,
            Self::Mismatch => 422,
            Self::Expired => 412,
            Self::Evicted { .. } => 410,
            Self::InvalidKey(_) => 400,
            Self::Misrouted => 421,
            Self::LeaseLost | Self::Unavailable(_) => 503,
            Self::Nested
            | Self::Ended
            | Self::NoScope
            | Self::Json(_)
            | Self::Handler(_)
            | Self::NotInstalled(_)
            | Self::Database(_) => 500,
        }
    }

    /// When to send the same key again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::InProgress { retry_after } => Some(*retry_after),
            Self::LeaseLost | Self::Unavailable(_) => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// The error of an outcome that is neither a claim nor an answer.
    pub(crate) fn of_outcome(outcome: &str, retry_after: Option<Duration>) -> Self {
        match outcome {
            "in_progress" => Self::InProgress { retry_after: retry_after.unwrap_or(Duration::from_secs(1)) },
            "mismatch" => Self::Mismatch,
            "expired" => Self::Expired,
            "unknown" => Self::Unknown,
            "sealed" => Self::Sealed,
            _ => Self::Handler(format!("the extension answered with an outcome that this client does not know: {outcome}").into()),
        }
    }

    /// Whether the same transaction may succeed when it is run again. A lost connection is one even in COMMIT: the next claim tells.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Database(cause) => is_passing(cause),
            Self::Handler(cause) => is_passing(cause.as_ref()),
            _ => false,
        }
    }
}

impl From<DatabaseError> for Error {
    fn from(cause: DatabaseError) -> Self {
        match cause.sqlstate() {
            Some("ID003") => Self::LeaseLost,
            Some("ID006") => Self::InvalidKey(cause),
            Some("ID010") => Self::Misrouted,
            // A handler's own statements come as `Handler`.
            Some("42883") => Self::NotInstalled(cause),
            _ => Self::Database(cause),
        }
    }
}

impl From<serde_json::Error> for Error {
    fn from(cause: serde_json::Error) -> Self {
        Self::Json(cause)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::InProgress { .. } => "another attempt holds the key",
            Self::Mismatch => "the key was used with another request",
            Self::LeaseLost => "the lease is lost: the work must not be completed as this attempt's",
            Self::Expired => "the key is older than the retention",
            Self::Unknown => "it may have happened, and nobody can tell: an administrator has to resolve the key",
            Self::InvalidKey(_) => "the operation, the key or the scope breaks the rules of names",
            Self::Sealed => "it was decided that this never runs",
            Self::Misrouted => "the key belongs to another node",
            Self::NotInstalled(_) => {
                "the extension is not in this database, or not in the search_path: CREATE EXTENSION pg_idempotent"
            }
            Self::Evicted { .. } => "the work is done, and its answer is not kept",
            Self::Unavailable(_) => "the database cannot be reached, or every try met a conflict",
            Self::Nested => {
                "a call within a handler of the same pool would wait for a second connection while it holds one: do that work in the handler's own transaction"
            }
            Self::Ended => "the transaction has ended: await every statement before the handler returns",
            Self::NoScope => "the request has no scope: say whose key it is, or that there is one tenant",
            Self::Json(_) => "the request or the answer is no JSON, or not of the type that is asked for",
            Self::Handler(_) => "the handler failed",
            Self::Database(_) => "the database refused",
        })
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Unavailable(cause) | Self::Handler(cause) => Some(cause.as_ref()),
            Self::InvalidKey(cause) | Self::NotInstalled(cause) | Self::Database(cause) => {
                Some(cause)
            }
            Self::Json(cause) => Some(cause),
            _ => None,
        }
    }
}

/// What an error of a driver says.
#[derive(Debug, Default)]
pub(crate) struct State<'a> {
    pub(crate) sqlstate: Option<&'a str>,
    pub(crate) is_lost: bool,
}

/// Digs it out of any error, wherever a layer above the driver keeps the original.
pub(crate) fn state_of<'a>(error: &'a (dyn error::Error + 'static)) -> Option<State<'a>> {
    let mut next = Some(error);
    while let Some(found) = next {
        if let Some(ours) = found.downcast_ref::<DatabaseError>() {
            return Some(State { sqlstate: ours.sqlstate(), is_lost: ours.is_lost });
        }
        if let Some(state) = crate::drivers::state_of(found) {
            return Some(state);
        }
        next = found.source();
    }
    None
}

/// Serialization failure, deadlock; the server shuts down, has crashed, or is not up yet; it has no connection left.
const PASSING: [&str; 6] = ["40001", "40P01", "57P01", "57P02", "57P03", "53300"];

pub(crate) fn is_passing(error: &(dyn error::Error + 'static)) -> bool {
    state_of(error).is_some_and(|state| {
        state.is_lost
            || state.sqlstate.is_some_and(|code| PASSING.contains(&code) || code.starts_with("08"))
    })
}
