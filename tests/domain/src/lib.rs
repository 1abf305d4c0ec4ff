//! src/domain once more, in a crate that has neither pgrx nor Postgres: what compiles here is pure,
//! and its tests run without a server. Beside it, what makes random input for it: [`budget`],
//! [`document`] and [`names`], which tests/fuzz puts before a real server as well.
#![allow(dead_code, unused_imports)]

#[path = "../../../src/domain/mod.rs"]
pub mod domain;

pub mod budget;
pub mod document;
pub mod names;

#[cfg(test)]
mod fuzz;
