//! Our tables: a file each, with its columns, and how it is read and written.

pub mod asked;
pub mod audit;
pub mod catalog;
pub mod changing;
pub mod configuring;
pub mod earlier;
pub mod exclusions;
pub mod fences;
pub mod hold;
pub mod locks;
pub mod message;
pub mod messages;
pub mod offsets;
pub mod open;
pub mod operations;
pub mod outbox;
pub mod own;
pub mod records;
pub mod resets;
pub mod sagas;
pub mod scope;
pub mod sweep;
pub mod sweepable;
