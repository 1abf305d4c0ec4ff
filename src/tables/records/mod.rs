//! Records of idempotency keys: the two tables, the canary, and the epoch of the fences.

pub mod canary;
pub mod fence_epoch;
pub mod row;
pub mod table;
