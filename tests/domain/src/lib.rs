//! src/domain once more, in a crate that has neither pgrx nor Postgres: what compiles here is pure,
//! and its tests run without a server.
#![allow(dead_code, unused_imports)]

#[path = "../../../src/domain/mod.rs"]
mod domain;
