//! What a call is about, and what it is answered.

use std::{fmt, sync::Arc, time::Duration};

use serde::Serialize;
use serde_json::Value;

use super::{
    database::{Cell, Isolation, number, text},
    error::Error,
    retry::Limits,
};

/// Whose key it is: the tenant, the account, the user that authentication has established. `None` says that there is one tenant.
#[derive(Clone, Debug, Default)]
pub struct Scope(pub(crate) String);

impl From<&str> for Scope {
    fn from(scope: &str) -> Self {
        Self(scope.to_owned())
    }
}

impl From<&String> for Scope {
    fn from(scope: &String) -> Self {
        Self(scope.clone())
    }
}

impl From<String> for Scope {
    fn from(scope: String) -> Self {
        Self(scope)
    }
}

impl From<Option<&str>> for Scope {
    fn from(scope: Option<&str>) -> Self {
        Self(scope.unwrap_or_default().to_owned())
    }
}

/// What became of a call. Neither key nor scope is in it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// The operation.
    pub operation: String,
    /// `transaction` or `lease`.
    pub mode: &'static str,
    /// The outcome of the claim, such as `claimed` or `replay`.
    pub outcome: String,
    /// The attempt of the record, where it is known.
    pub attempt: Option<u32>,
    /// Whether a stored answer was given.
    pub replayed: bool,
}

/// Told what became of each call.
pub(crate) type Observe = Arc<dyn Fn(&Event) + Send + Sync>;

/// Everything that a call says.
#[derive(Clone)]
pub struct Call {
    pub(crate) operation: String,
    pub(crate) key: String,
    pub(crate) scope: String,
    pub(crate) request: Option<Arc<Result<String, serde_json::Error>>>,
    pub(crate) limits: Limits,
    pub(crate) ttl: Option<Duration>,
    pub(crate) first_sent: Option<String>,
    pub(crate) isolation: Option<Isolation>,
    pub(crate) lease: Duration,
    pub(crate) observe: Option<Observe>,
}

impl fmt::Debug for Call {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Call").field("operation", &self.operation).finish_non_exhaustive()
    }
}

impl Call {
    pub(crate) fn new(operation: String, key: String) -> Self {
        Self {
            operation,
            key,
            scope: String::new(),
            request: None,
            limits: Limits::default(),
            ttl: None,
            first_sent: None,
            isolation: None,
            lease: LEASE,
            observe: None,
        }
    }

    /// The request as JSON text.
    pub(crate) fn request(&self) -> Result<Option<&str>, Error> {
        match self.request.as_deref() {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text)),
            Some(Err(error)) => Err(Error::Json(serde::ser::Error::custom(error))),
        }
    }

    pub(crate) fn observed(&self, mode: &'static str, result: &Claimed) {
        let replayed = result.outcome == "replay";
        observed(
            self.observe.as_ref(),
            &self.operation,
            mode,
            &result.outcome,
            result.attempt,
            replayed,
        );
    }
}

pub(crate) const LEASE: Duration = Duration::from_secs(30);

pub(crate) fn observed(
    observe: Option<&Observe>,
    operation: &str,
    mode: &'static str,
    outcome: &str,
    attempt: Option<u32>,
    replayed: bool,
) {
    #[cfg(feature = "tracing")]
    tracing::event!(
        target: "pg_idempotent",
        tracing::Level::DEBUG,
        idempotency.operation = operation,
        idempotency.mode = mode,
        idempotency.outcome = outcome,
        idempotency.attempt = attempt,
        idempotency.replayed = replayed,
    );
    if let Some(observe) = observe {
        observe(&Event {
            operation: operation.to_owned(),
            mode,
            outcome: outcome.to_owned(),
            attempt,
            replayed,
        });
    }
}

/// A call that does not say yet whose key it is.
#[derive(Debug)]
#[must_use]
pub struct Unscoped<C> {
    call: Call,
    of: fn(Call) -> C,
}

impl<C> Unscoped<C> {
    pub(crate) fn new(call: Call, of: fn(Call) -> C) -> Self {
        Self { call, of }
    }

    /// Whose key it is: the tenant, the account, the user that authentication has established. `None` says that there is one tenant.
    pub fn scope(mut self, scope: impl Into<Scope>) -> C {
        self.call.scope = scope.into().0;
        (self.of)(self.call)
    }
}

/// The settings that [`Once`](crate::Once) and [`Lease`](crate::Lease) share.
macro_rules! settings {
    () => {
        /// What is asked for, as JSON. The key with another request is a mismatch.
        pub fn request(mut self, request: &(impl serde::Serialize + ?Sized)) -> Self {
            self.call.request = Some(std::sync::Arc::new(serde_json::to_string(request)));
            self
        }

        /// How long to wait for another attempt that holds the key; 2 seconds unless given. No connection is held meanwhile.
        pub fn wait(mut self, wait: std::time::Duration) -> Self {
            self.call.limits.wait = wait;
            self
        }

        /// How often to run; 5 unless given.
        pub fn tries(mut self, tries: u32) -> Self {
            self.call.limits.tries = tries;
            self
        }

        /// After which time no further try begins; 30 seconds unless given.
        pub fn deadline(mut self, deadline: std::time::Duration) -> Self {
            self.call.limits.deadline = deadline;
            self
        }

        /// How long the answer is kept, in place of the operation's retention.
        pub fn ttl(mut self, ttl: std::time::Duration) -> Self {
            self.call.ttl = Some(ttl);
            self
        }

        /// When the client first sent it, as a timestamp that Postgres reads: dates a key that has no date of its own.
        pub fn first_sent(mut self, first_sent: impl Into<String>) -> Self {
            self.call.first_sent = Some(first_sent.into());
            self
        }

        /// Is told what became of the call.
        pub fn observe(mut self, observe: impl Fn(&crate::Event) + Send + Sync + 'static) -> Self {
            self.call.observe = Some(std::sync::Arc::new(observe));
            self
        }
    };
}
pub(crate) use settings;

/// What was stored: the same for the first caller and for all others.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Answered<T> {
    /// The answer.
    pub answer: T,
    /// Whether an earlier call did the work.
    pub replayed: bool,
    /// Whether it is a failure that was stored with [`fail`](crate::fail).
    pub failed: bool,
    /// The status that was stored with it.
    pub status: Option<u16>,
    /// The headers that were stored with it.
    pub headers: Value,
}

/// What a handler returns that says more than its answer.
#[derive(Clone, Debug)]
#[must_use]
pub struct Answer<T> {
    pub(crate) value: T,
    pub(crate) failed: bool,
    pub(crate) status: Option<u16>,
    pub(crate) headers: Option<Value>,
}

impl<T> Answer<T> {
    /// A status to store with it.
    pub fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Headers to store with it.
    pub fn headers(mut self, headers: impl Into<Value>) -> Self {
        self.headers = Some(headers.into());
        self
    }
}

/// An answer, to which a status or headers can be added.
pub fn complete<T>(value: T) -> Answer<T> {
    Answer { value, failed: false, status: None, headers: None }
}

/// A final failure: stored for the operation's `failure_retention`, and replayed like an answer. What the handler wrote is committed with it.
pub fn fail<T>(value: T) -> Answer<T> {
    Answer { value, failed: true, status: None, headers: None }
}

/// What a handler may return: anything that is JSON, or an [`Answer`] with it.
pub trait IntoAnswer: Send {
    /// The answer itself.
    type Value: Serialize + Send;

    /// With what else is said.
    fn into_answer(self) -> Answer<Self::Value>;
}

impl<T: Serialize + Send> IntoAnswer for T {
    type Value = T;

    fn into_answer(self) -> Answer<T> {
        complete(self)
    }
}

impl<T: Serialize + Send> IntoAnswer for Answer<T> {
    type Value = T;

    fn into_answer(self) -> Answer<T> {
        self
    }
}

/// What a claim says.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) outcome: String,
    pub(crate) fence: Option<i64>,
    pub(crate) attempt: Option<u32>,
    pub(crate) failed: bool,
    pub(crate) status: Option<u16>,
    pub(crate) headers: Value,
    pub(crate) response: String,
    pub(crate) evicted: bool,
    pub(crate) checkpoint: Value,
    pub(crate) retry_after: Option<Duration>,
}

impl Claimed {
    /// Of the row of CLAIM and REPLAY.
    pub(crate) fn of(rows: &[Vec<Cell>]) -> Result<Self, Error> {
        let row = rows.first().map(Vec::as_slice).unwrap_or_default();
        let json = |column| text(row, column).map_or(Ok(Value::Null), serde_json::from_str);
        Ok(Self {
            outcome: text(row, 0).unwrap_or_default().to_owned(),
            fence: number(row, 1),
            attempt: number(row, 2),
            failed: text(row, 3) == Some("true"),
            status: number(row, 4),
            headers: json(5)?,
            response: text(row, 6).unwrap_or("null").to_owned(),
            evicted: text(row, 7) == Some("true"),
            checkpoint: json(8)?,
            retry_after: number(row, 9).map(Duration::from_millis),
        })
    }

    pub(crate) fn replay<T: serde::de::DeserializeOwned>(self) -> Result<Answered<T>, Error> {
        if self.evicted {
            return Err(Error::Evicted { status: self.status });
        }
        let answer = serde_json::from_str(&self.response)?;
        Ok(Answered {
            answer,
            replayed: true,
            failed: self.failed,
            status: self.status,
            headers: self.headers,
        })
    }

    pub(crate) fn error(&self) -> Error {
        Error::of_outcome(&self.outcome, self.retry_after)
    }
}
