//! The call, its outcome and its tries: what has nothing to do with a driver, with HTTP or with a lease.

pub(crate) mod call;
pub(crate) mod database;
pub(crate) mod error;
pub(crate) mod once;
pub(crate) mod retry;
pub(crate) mod sql;
pub(crate) mod tx;
