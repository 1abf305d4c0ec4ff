//! Tables past the executor: open, look up, insert, delete.

pub mod index;
pub mod insert;
pub mod lookup;
pub mod opening;
pub mod relation;
pub mod walk;
