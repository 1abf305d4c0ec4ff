//! What an operation's owner decided, and the defaults of an operation that is not configured.

use crate::error::{Code, Error, Result};
use crate::identity::{literal, printable};
use crate::{Micros, Timestamp};

use crate::duration;
use crate::http::HttpPolicy;
use crate::request::exclude::Exclusions;
use crate::store_failures::StoreFailures;

/// Where an operation's records live.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Fast; gone after a crash.
    Unlogged,
    /// As safe as any row.
    Logged,
}

/// What a lapsed lease means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnLapse {
    /// The next caller takes over.
    Retry,
    /// The work may have happened: an administrator must say.
    Unknown,
}

/// What becomes of a dated key without a record, when records were lost since that date.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AfterReset {
    /// The work may have happened: an administrator must say.
    Unknown,
    /// Run it, perhaps again.
    Execute,
}

/// Whether the dates that keys carry count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyDates {
    /// A `UUIDv7` is as old as it says.
    Use,
    /// The clocks that make the keys cannot be trusted: every key counts as undated.
    Ignore,
}

/// What keys look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyForm {
    /// Any text: each spelling is a key.
    Text,
    /// A UUID, of which every spelling is one key.
    Uuid,
}

/// What outcomes are good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// They are binding.
    Enforce,
    /// They are counted, and every call goes through.
    Observe,
}

impl Durability {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Unlogged, Self::Logged];

    /// Reads `logged` or `unlogged`, in either case.
    ///
    /// # Errors
    /// `22023` for anything else.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self> {
        choose("durability", text.as_ref(), [Self::Unlogged, Self::Logged], Self::as_str)
    }

    /// As [`Self::parse`] reads it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unlogged => "unlogged",
            Self::Logged => "logged",
        }
    }
}

impl OnLapse {
    /// Reads `retry` or `unknown`, in either case.
    ///
    /// # Errors
    /// `22023` for anything else.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self> {
        choose("on_lapse", text.as_ref(), [Self::Retry, Self::Unknown], Self::as_str)
    }

    /// As [`Self::parse`] reads it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Unknown => "unknown",
        }
    }
}

impl AfterReset {
    /// Reads `unknown` or `execute`, in either case.
    ///
    /// # Errors
    /// `22023` for anything else.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self> {
        choose("after_reset", text.as_ref(), [Self::Unknown, Self::Execute], Self::as_str)
    }

    /// As [`Self::parse`] reads it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Execute => "execute",
        }
    }
}

impl KeyDates {
    /// Reads `use` or `ignore`, in either case.
    ///
    /// # Errors
    /// `22023` for anything else.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self> {
        choose("key_dates", text.as_ref(), [Self::Use, Self::Ignore], Self::as_str)
    }

    /// As [`Self::parse`] reads it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Use => "use",
            Self::Ignore => "ignore",
        }
    }
}

impl KeyForm {
    /// Reads `text` or `uuid`, in either case.
    ///
    /// # Errors
    /// `22023` for anything else.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self> {
        choose("key_form", text.as_ref(), [Self::Text, Self::Uuid], Self::as_str)
    }

    /// As [`Self::parse`] reads it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Uuid => "uuid",
        }
    }
}

impl Mode {
    /// Reads `enforce` or `observe`, in either case.
    ///
    /// # Errors
    /// `22023` for anything else.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self> {
        choose("mode", text.as_ref(), [Self::Enforce, Self::Observe], Self::as_str)
    }

    /// As [`Self::parse`] reads it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        }
    }
}

fn choose<T: Copy>(
    what: &str,
    text: &[u8],
    choices: [T; 2],
    name: fn(T) -> &'static str,
) -> Result<T> {
    let chosen = |choice: &T| text.eq_ignore_ascii_case(name(*choice).as_bytes());
    choices.into_iter().find(chosen).ok_or_else(|| {
        let [one, other] = choices.map(name);
        Error::new(Code::InvalidParameter, format!("{what} cannot be \"{}\"", printable(text)))
            .hint(format!("Pass {what} => '{one}' or {what} => '{other}'."))
    })
}

/// Settings that were in force until some time: what was stored under them may be gone, whatever the
/// retention is today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// Keys with an earlier date may have been stored under these settings.
    pub until: Timestamp,
    /// How long after the date of its key a record was kept, at least.
    pub kept: Micros,
}

/// An operation's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long a finished record answers replays.
    pub retention: Micros,
    /// How long a stored failure does.
    pub failure_retention: Micros,
    /// How long the body of an answer is kept; `None` for as long as its record.
    pub response_retention: Option<Micros>,
    /// The lease of claims that name none; `None` holds them in the transaction.
    pub lease: Option<Micros>,
    /// How long a claim waits for the holder; `None` for the setting of the server.
    pub wait: Option<Micros>,
    /// Where the records live.
    pub durability: Durability,
    /// What a lapsed lease means.
    pub on_lapse: OnLapse,
    /// What becomes of keys from before a loss of records.
    pub after_reset: AfterReset,
    /// Whether the dates that keys carry count.
    pub key_dates: KeyDates,
    /// What keys look like.
    pub key_form: KeyForm,
    /// Whether outcomes are binding.
    pub mode: Mode,
    /// When records of the operation were last lost from a table that it no longer keeps them in;
    /// `Timestamp::MIN` for never.
    pub lost_before: Timestamp,
    /// Earlier settings, as far as records were kept for less under them.
    pub earlier: Vec<Earlier>,
    /// The largest answer kept, in bytes; a larger one is recorded without its body.
    pub max_response_bytes: i32,
    /// Whether an empty scope is refused.
    pub scope_required: bool,
    /// Members of the request that do not count for its fingerprint.
    pub exclude: Exclusions,
    /// The number of that set, which is stored with a fingerprint.
    pub exclusion_set: i16,
    /// Sets that the operation had before, by their numbers: what was stored with them is compared
    /// by them.
    pub earlier_exclusions: Vec<(i16, Exclusions)>,
    /// Errors of a handler that are final answers.
    pub store_failures: StoreFailures,
    /// The name of the role whose members alone may use the operation; `None` for every caller. A
    /// role that is missing has no members.
    pub role: Option<String>,
    /// What is kept of an answer of HTTP.
    pub http: HttpPolicy,
    /// The name of the role whose members alone may take messages of the topic of this name; `None`
    /// for `role`.
    pub take_role: Option<String>,
    /// The longest lease that a caller may ask for; `None` for any.
    pub max_lease: Option<Micros>,
    /// The longest retention that a caller may ask for; `None` for any.
    pub max_retention: Option<Micros>,
    /// Whether the operation is configured.
    pub is_declared: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            retention: 24 * 3600 * 1_000_000,
            failure_retention: 5 * 60 * 1_000_000,
            response_retention: None,
            lease: None,
            wait: None,
            durability: Durability::Unlogged,
            on_lapse: OnLapse::Retry,
            after_reset: AfterReset::Unknown,
            key_dates: KeyDates::Use,
            key_form: KeyForm::Text,
            mode: Mode::Enforce,
            lost_before: Timestamp::MIN,
            earlier: Vec::new(),
            max_response_bytes: 1024 * 1024,
            scope_required: false,
            exclude: Exclusions::default(),
            exclusion_set: 0,
            earlier_exclusions: Vec::new(),
            store_failures: StoreFailures::default(),
            role: None,
            http: HttpPolicy::default(),
            take_role: None,
            max_lease: None,
            max_retention: None,
            is_declared: false,
        }
    }
}

/// What a replay can still show, whatever `max_response_bytes` says: Postgres makes no value of
/// more than 1 GiB, and a `bytea` as text takes twice its size.
const LARGEST: usize = 500 * 1024 * 1024;

impl Policy {
    /// The role whose members alone may take messages; `None` for every relay.
    #[must_use]
    pub fn relays(&self) -> Option<&str> {
        self.take_role.as_deref().or(self.role.as_deref())
    }

    /// The set of exclusions with this number; `None` if it is not known any more.
    #[must_use]
    pub fn exclusions(&self, set: i16) -> Option<&Exclusions> {
        if set == self.exclusion_set {
            return Some(&self.exclude);
        }
        self.earlier_exclusions
            .iter()
            .find(|(number, _)| *number == set)
            .map(|(_, members)| members)
    }

    /// The largest answer that is kept, in bytes.
    #[must_use]
    pub fn largest_answer(&self) -> usize {
        usize::try_from(self.max_response_bytes).unwrap_or(0).min(LARGEST)
    }

    /// What `largest_answer` is, for a message.
    #[must_use]
    pub fn limit_of_answers(&self) -> &'static str {
        if usize::try_from(self.max_response_bytes).is_ok_and(|limit| limit > LARGEST) {
            "The most that is ever kept"
        } else {
            "The operation's max_response_bytes"
        }
    }

    /// Checks the lease that a caller asks for.
    ///
    /// # Errors
    /// `22023` beyond `max_lease`.
    pub fn check_lease(&self, operation: &[u8], lease: Micros) -> Result<()> {
        let otherwise = "and extend it while the work goes on: SELECT idempotent_extend(...)";
        check_most(operation, "lease", lease, ("max_lease", self.max_lease), otherwise)
    }

    /// Checks the time for which a caller asks for a lock with a key, which is a lease, too.
    ///
    /// # Errors
    /// `22023` beyond `max_lease`.
    pub fn check_ttl(&self, operation: &[u8], ttl: Micros) -> Result<()> {
        let otherwise = "and ask for the lock again, with the same key, while the work goes on";
        check_most(operation, "ttl", ttl, ("max_lease", self.max_lease), otherwise)
    }

    /// Checks the lease under which a relay takes messages, which it cannot extend.
    ///
    /// # Errors
    /// `22023` beyond `max_lease`.
    pub fn check_take(&self, topic: &[u8], lease: Micros) -> Result<()> {
        let otherwise = "and take fewer messages at a time";
        check_most(topic, "lease", lease, ("max_lease", self.max_lease), otherwise)
    }

    /// Checks the retention that a caller asks for.
    ///
    /// # Errors
    /// `22023` beyond `max_retention`.
    pub fn check_retention(&self, operation: &[u8], retention: Micros) -> Result<()> {
        let otherwise = "or leave it out, for that of the operation";
        check_most(
            operation,
            "retention",
            retention,
            ("max_retention", self.max_retention),
            otherwise,
        )
    }

    /// Checks that a scope is there if the operation demands one.
    ///
    /// # Errors
    /// `ID006` for an empty scope that must not be.
    pub fn check_scope(&self, operation: &[u8], scope: &[u8]) -> Result<()> {
        if !self.scope_required || !scope.is_empty() {
            return Ok(());
        }
        let operation = printable(operation);
        Err(Error::new(Code::BadKey, "scope must not be empty")
            .detail(format!("Operation \"{operation}\" demands a scope."))
            .hint("Pass the owner of the key, such as scope => 'tenant-7'."))
    }
}

/// What a call on an operation that is not configured is told, where that is not allowed.
#[must_use]
pub fn undeclared(operation: &[u8]) -> Error {
    let (name, typed) = (printable(operation), literal(operation, "operation"));
    Error::new(Code::UndefinedObject, format!("operation \"{name}\" is not configured"))
        .detail("It has the defaults, and keys of its own.")
        .hint(format!(
            "See that its name is spelled as it is configured, or configure it: SELECT \
            idempotent_operation({typed})."
        ))
}

/// What an administrator is told that removes the settings of an operation in use.
#[must_use]
pub fn has_records(operation: &[u8], what: &[u8]) -> Error {
    let (name, typed) = (printable(operation), literal(operation, "operation"));
    let hint = match what {
        b"saga" => "Wait until they have ended and expired, or end them: idempotent_saga_abandon(), idempotent_saga_forget()."
            .to_owned(),
        b"message" => "Wait until they are delivered and forgotten.".to_owned(),
        b"offset" => "Remove them, if the consumer is gone: SELECT idempotent_forget_offset(...). SELECT * FROM idempotent.offsets shows them."
            .to_owned(),
        b"lock" => "Wait until their holders have given them back: SELECT * FROM idempotent.locks.".to_owned(),
        _ => format!("Wait until they have expired, or delete them first: SELECT idempotent_forget_all({typed})."),
    };
    let what = printable(what);
    Error::new(Code::ObjectInUse, format!("operation \"{name}\" still has {what}s"))
        .detail("Without its settings they would be judged by the defaults, be open to every caller, or run again.")
        .hint(hint)
}

/// Refuses what is longer than the most that callers may ask for.
fn check_most(
    operation: &[u8],
    what: &str,
    asked: Micros,
    (setting, most): (&str, Option<Micros>),
    otherwise: &str,
) -> Result<()> {
    let Some(most) = most.filter(|most| asked > *most) else { return Ok(()) };
    let (asked, most) = (duration::describe(asked), duration::describe(most));
    let operation = printable(operation);
    Err(Error::new(Code::InvalidParameter, format!("{what} is longer than the operation allows"))
        .detail(format!("It is {asked}; {setting} of operation \"{operation}\" is {most}."))
        .hint(format!("Pass {what} => '{most}' or less, {otherwise}.")))
}

#[cfg(test)]
#[path = "tests/policy.rs"]
mod tests;
