//! The plan node for a call in FROM: `SELECT outcome FROM idempotent_claim(...)`.
//!
//! Postgres plans that as a function scan, which has the function make a composite value, puts it into a
//! tuplestore, reads it back and takes it apart. The node calls the function just as often and at the same
//! moments, and takes its columns one by one (`pg/receiver.rs`).
//!
//! `offer` decides which calls may be planned so, and leaves every other to the function scan. `node` is what
//! runs, `show` what EXPLAIN says.

mod list;
mod node;
mod offer;
mod show;

use crate::pg::function::Symbol;
use pgrx::pg_sys;
use std::sync::OnceLock;

/// The functions that may be called so, and the columns of their row.
struct Served {
    functions: &'static [Symbol],
    columns: &'static [pg_sys::Oid],
}

static SERVED: OnceLock<Served> = OnceLock::new();

/// Registers the node; called once, when the library is loaded. A statement that was planned before keeps its
/// function scan.
pub fn init(functions: &'static [Symbol], columns: &'static [pg_sys::Oid]) {
    if SERVED.set(Served { functions, columns }).is_ok() {
        node::init();
        offer::init();
    }
}
