//! What the views `idempotent.stats` and `idempotent.health` are made of, and
//! `idempotent_stats_reset`.

use crate::api::grants;
use crate::pg::arguments::{Args, Returned};
use crate::pg::database;
use crate::pg::datum::jsonb;
use crate::pg::{clock, memory, shared_memory};
use crate::stats::visits::{self, Visit};
use crate::stats::{self, Counter, samples};
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::error::{Code, Error};
use rules::observe::Observed;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Enough for the names and numbers of all operations of a database, as objects and as text.
const ROOM: usize = 16 * 1024 * 1024;

/// The counters of the current database: an array of objects, one an operation.
pub fn idempotent_counters(_: &Args) -> Returned {
    memory::expect(ROOM)?;
    let rows: Vec<Map<String, Value>> = stats::of_this_database()
        .unwrap_or_default()
        .into_iter()
        .map(|(name, counts)| {
            let operation = String::from_utf8_lossy(&name).into_owned();
            let mut row = Map::from_iter([("operation".to_owned(), operation.into())]);
            for ((_, counter), count) in Counter::ALL.iter().zip(counts) {
                row.insert((*counter).to_owned(), count.into());
            }
            row
        })
        .collect();
    jsonb::of(&rows)
}

/// Examples of what was observed in the current database, by operation and kind, latest first.
pub fn idempotent_samples(_: &Args) -> Returned {
    let mut operations: BTreeMap<String, BTreeMap<&str, Vec<Value>>> = BTreeMap::new();
    // A character that stands for bytes that are not text is not in every encoding.
    let unfit = ['\0', char::REPLACEMENT_CHARACTER];
    let text = |utf8: &[u8]| String::from_utf8_lossy(utf8).replace(unfit, "?");
    for sample in samples::of_this_database() {
        let (_, kind) = Observed::ALL[sample.observed as usize];
        let kinds = operations.entry(text(&sample.operation)).or_default();
        kinds.entry(kind).or_default().push(json!({
            "scope": text(&sample.scope), "key": text(&sample.key), "at": clock::text(sample.at)
        }));
    }
    jsonb::of(&operations)
}

/// What the library says of itself.
#[derive(Serialize)]
struct Library {
    version: &'static str,
    /// Whether there are counters, and a sweeper.
    preloaded: bool,
    last_sweep: Option<String>,
    sweep_failures: Option<u32>,
    callers_functions: &'static str,
}

pub fn idempotent_library(_: &Args) -> Returned {
    let version = env!("CARGO_PKG_VERSION");
    let visit = visits::here();
    jsonb::of(&Library {
        version,
        preloaded: shared_memory::preloaded(),
        last_sweep: visit.and_then(Visit::last_success).and_then(clock::text),
        sweep_failures: visit.map(Visit::failures),
        callers_functions: grants::CALLERS_FUNCTIONS,
    })
}

/// Also for databases that are gone: nothing else gives their rows back.
pub fn idempotent_stats_reset(_: &Args) -> Returned {
    if !shared_memory::preloaded() {
        return Err(Error::new(Code::ObjectNotReady, "no statistics are kept")
            .detail("The library was not loaded when the server started.")
            .hint("Add pg_idempotent to shared_preload_libraries, and restart the server."));
    }
    // SAFETY: MyDatabaseId is set when the backend connects and never written after that.
    let mine = unsafe { pg_sys::MyDatabaseId };
    stats::forget(|database| database == mine || database::name(database).is_none());
    Ok(Some(Datum::from(0)))
}
