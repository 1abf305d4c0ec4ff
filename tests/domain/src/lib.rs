//! Random input for the rules: [`budget`], [`document`] and [`names`] make it, the properties of
//! `rules` are tried with it here, and tests/fuzz puts it before a real server as well.

pub mod budget;
pub mod document;
pub mod names;

#[cfg(test)]
mod fuzz;
