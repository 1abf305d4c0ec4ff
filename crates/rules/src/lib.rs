//! Every decision of pg_idempotent, made without Postgres.
//!
//! Everything here is a function of its arguments: no clock, no I/O, no global state, no `unsafe`.
//! The time is passed in, bytes come in as slices, and what comes out is a verdict or an
//! [`error::Error`]. So every rule of the contract is tested here, without a server.

// A test says what went wrong by panicking.
#![cfg_attr(test, allow(clippy::panic, clippy::unwrap_used))]

pub mod claim;
pub mod dating;
pub mod duration;
pub mod error;
pub mod finish;
pub mod handler;
pub mod http;
pub mod identity;
pub mod key_form;
pub mod lock;
pub mod names;
pub mod observe;
pub mod outcome;
pub mod own;
pub mod pace;
pub mod policy;
pub mod record;
pub mod request;
pub mod retention;
pub mod saga;
pub mod slot;
pub mod store_failures;
pub mod uuid7;
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
