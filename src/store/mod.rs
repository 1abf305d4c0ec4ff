//! Everything that touches Postgres' storage: relations, tuples, locks, snapshots, transactions.
//! The only part of the extension that opens a relation.

pub mod answer;
pub mod array;
pub mod bytes;
pub mod catalog;
pub mod claims;
pub mod clock;
pub mod columns;
pub mod encoding;
pub mod fence;
pub mod function;
pub mod handler;
pub mod index;
pub mod insert;
pub mod journal;
pub mod json;
pub mod lock;
pub mod look;
pub mod messages;
pub mod named_locks;
pub mod offsets;
pub mod operations;
pub mod passes;
pub mod prepared;
pub mod random;
pub mod record;
pub mod relation;
pub mod reset;
pub mod rights;
pub mod snapshot;
pub mod sql;
pub mod subtransaction;
pub mod sweep;
pub mod sweepable;
pub mod uncaught;

/// Registers the callbacks that keep what this backend remembers true; called once.
pub fn init() {
    catalog::init();
    claims::init();
}
