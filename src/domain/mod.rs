//! What a call means, decided without Postgres.
//!
//! Everything here is a function of its arguments: no clock, no I/O, no global state, no `unsafe`.
//! The time is passed in, bytes come in as slices, and what comes out is a verdict or an
//! [`error::Error`]. So every rule of the contract can be tested here, without a server.
//!
//! * [`identity`]: who is meant (operation, scope, key) and the one digest with four uses
//! * [`part`]: what a name, a scope or a key may look like
//! * [`fingerprint`]: what was asked, canonically
//! * [`dating`]: when a key says it was first sent
//! * [`policy`]: what an operation's owner decided
//! * [`verdict`]: record + request + now -> outcome
//! * [`named_lock`]: who may have a resource
//! * [`observe`]: what a call would have been answered
//! * [`shard`]: consistent placement
//! * [`version`]: whether library and schema belong together
//! * [`error`]: SQLSTATE, message, detail, hint
#![deny(unsafe_code)]

mod duration;
pub mod error;
mod exclude;
mod failures;
mod fence;
mod number;

pub mod dating;
pub mod fingerprint;
pub mod identity;
pub mod named_lock;
pub mod observe;
pub mod part;
pub mod policy;
pub mod shard;
pub mod sweeping;
pub mod verdict;
pub mod version;

#[cfg(test)]
#[path = "tests/json.rs"]
mod json;
#[cfg(test)]
#[path = "tests/table.rs"]
mod table;

/// Microseconds since 2000-01-01 00:00 UTC, as Postgres' `timestamptz` (whose infinities are the
/// two ends of the type, and order correctly against everything else).
pub type Timestamp = i64;

/// A length of time in microseconds.
pub type Micros = i64;
