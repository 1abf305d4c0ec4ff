//! The history checker.
//!
//! Many clients call the extension at random, from a seed (`plan`, `play`), while faults befall them (`fault`). Every
//! call is recorded with its times, its arguments and what came back (`history`). Afterwards `check` proves from that
//! record, and from the effects that are really in the database, that no promise was broken. It knows nothing of how
//! the extension works, only what the contract says.

pub mod answer;
pub mod check;
pub mod fault;
pub mod figures;
pub mod history;
pub mod nodes;
pub mod options;
pub mod pattern;
pub mod plan;
pub mod play;
pub mod round;
pub mod settings;

/// Whatever stops a run, in words.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
