//! Postgres for Rust: calls, errors, memory, values, tables, locks, SPI, shared memory. Nothing here
//! knows of a table of ours or of idempotency.

pub mod acl;
pub mod arguments;
pub mod callee;
pub mod catalog_changes;
pub mod clock;
pub mod database;
pub mod datum;
pub mod declaration;
pub mod error;
pub mod function;
pub mod limit;
pub mod lock;
pub mod memory;
pub mod pass_on;
pub mod prepared;
pub mod random;
pub mod raw;
pub mod receiver;
pub mod rights;
pub mod search_path;
pub mod shared_memory;
pub mod snapshot;
pub mod spi;
pub mod subtransaction;
pub mod table;
pub mod wait_event;
