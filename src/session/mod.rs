//! What a backend remembers of its transaction, and takes back with its savepoints.

pub mod claims;
pub mod counts;
pub mod guard;
pub mod observed;
pub mod transaction;
pub mod undo;
