//! The client against a server: PGHOST and PGPORT name it. Each module has a database of its own.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod conformance;
mod door;
mod http;
mod lease;
mod nodes;
mod once;
mod readme;
mod server;
mod storm;
