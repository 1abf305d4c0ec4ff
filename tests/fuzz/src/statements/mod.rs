//! Random statements from several clients at once, over few keys: calls with arguments of every kind, within calls,
//! subqueries, blocks with exception handlers, cursors, prepared statements, triggers, parallel workers, savepoints and
//! prepared transactions. Each gives rows or a known SQLSTATE, never XX000, and no connection is ever closed.

mod catalog;
mod statement;
mod value;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use client::Wire;
use client::cluster::Result;
use client::connect::Server;
use client::watch::wait_until;
use domain::budget::Budget;
use fastrand::Rng;

use crate::stage::{Stage, set_up};
use catalog::Function;

const CLIENTS: u64 = 4;
/// Between two looks for those who take too long.
const LOOK: Duration = Duration::from_millis(100);
/// How much longer than asked for clients go on, if a function has never been called with success: a slow machine is no
/// failure.
const PATIENCE: Duration = Duration::from_mins(2);
/// Of a client, for the report: long enough to show where a transaction began.
const REMEMBERED: usize = 25;
/// What random statements run into: the contract's codes, and what Postgres itself says to them. Class by class, with
/// the classes that mean that something is broken left out.
const KNOWN: &[&str] = &[
    // The extension's own, and those of the contract.
    "ID", "22023", "25006", "40001", "40P01", "42501", "55006",
    // Waits that were cut short.
    "55P03", "57014", "25P04", // The handlers' own: raised, divided by zero.
    "P0001", "22012",
    // Statements that do not fit where they stand: transactions, savepoints, cursors, prepared statements, roles.
    "25000", "25001", "25P01", "25P02", "2D000", "3B001", "34000", "24000", "26000", "42704",
    "42P03", "42P05", "42710", "55000",
    // Arguments that Postgres refuses before we see them, and functions that are no handlers.
    "22001", "22008", "22007", "22015", "22P02", "42883", "42804", "0A000", "54000", "54001",
    "2202E", "22003",
    // What a column refuses: a function behind a door, called past the door that checks its arguments.
    "23502",
    // Places where a call must not stand, a function of a set in CASE and the like.
    "42P13", "21000",
];

pub fn run(stage: &Stage, budget: Budget) -> Result<String> {
    let server = stage.database("statements", "")?;
    set_up(&server, include_str!("setup.sql"))?;
    // Nobody waits for long for a prepared transaction that nobody settles, not even after DISCARD ALL.
    set_up(&server, "ALTER DATABASE statements SET statement_timeout = '500ms'")?;
    let functions = catalog::functions(&mut server.wire());
    let (over, codes) = (AtomicBool::new(false), Mutex::new(BTreeMap::new()));
    let (gone, all_called) = (AtomicBool::new(false), AtomicBool::new(false));
    let failures: Vec<String> = thread::scope(|scope| {
        let watch = scope.spawn(|| watch(&server, &functions, &gone, &all_called));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (server, functions, over, codes) = (&server, &functions, &over, &codes);
                let all_called = &all_called;
                scope.spawn(move || {
                    let is_over = |played: Duration| {
                        over.load(Ordering::Relaxed)
                            || played >= budget.time
                                && (all_called.load(Ordering::Relaxed)
                                    || played >= budget.time + PATIENCE)
                    };
                    let failure = play(server, functions, budget.seed, number, is_over, codes);
                    failure.inspect(|_| over.store(true, Ordering::Relaxed))
                })
            })
            .collect();
        let failures: Vec<_> = clients
            .into_iter()
            .filter_map(|client| {
                client.join().unwrap_or_else(|_| Some("a client panicked".to_owned()))
            })
            .collect();
        gone.store(true, Ordering::Relaxed);
        let deaf = watch.join().unwrap_or_else(|_| Some("the watch panicked".to_owned()));
        failures.into_iter().chain(deaf).collect()
    });
    if !failures.is_empty() {
        return Err(failures.join("\n").into());
    }
    let codes = codes.into_inner()?;
    let total: u64 = codes.values().sum();
    nothing_is_left(&server)?;
    let calls = calls(&server, &functions)?;
    let common: Vec<String> = codes
        .iter()
        .map(|(code, count)| format!("{} {count}", if code.is_empty() { "fine" } else { code }))
        .collect();
    Ok(format!("{total} statements, {calls}; {}", common.join(", ")))
}

/// One client, until it is over or something is wrong, which it returns.
fn play(
    server: &Server,
    functions: &[Function],
    seed: u64,
    number: u64,
    is_over: impl Fn(Duration) -> bool,
    codes: &Mutex<BTreeMap<String, u64>>,
) -> Option<String> {
    let mut rng = Rng::with_seed(seed.wrapping_mul(CLIENTS) + number);
    let mut wire = server.wire();
    let mut said = VecDeque::new();
    let mut state = 'I';
    let mut count = BTreeMap::<String, u64>::new();
    let began = Instant::now();
    let failure = loop {
        if is_over(began.elapsed()) {
            break None;
        }
        let sql = match state {
            'E' if rng.u8(..3) > 0 => ["ROLLBACK", "ROLLBACK TO s"][rng.usize(..2)].to_owned(),
            _ => statement::next(&mut rng, functions, state == 'T'),
        };
        let reply = wire.call(&sql);
        said.push_back(format!(
            "{sql};  -- {} {:?}",
            reply.code(),
            reply.refusal.as_ref().map(|refusal| &refusal.message)
        ));
        if said.len() > REMEMBERED {
            said.pop_front();
        }
        state = reply.transaction;
        *count.entry(reply.code().to_owned()).or_default() += 1;
        let known =
            reply.code().is_empty() || KNOWN.iter().any(|code| reply.code().starts_with(code));
        // A transaction_timeout ends the session, as it must.
        if reply.code() == "25P04" {
            wire = server.wire();
            state = 'I';
        } else if state == 'X' || !known {
            let lines: Vec<String> =
                said.iter().map(|line| line.chars().take(1500).collect()).collect();
            let what = if state == 'X' { "the connection was closed" } else { "no known SQLSTATE" };
            break Some(format!(
                "client {number}: {what}: {:?}\nits last statements:\n{}",
                reply.refusal,
                lines.join("\n")
            ));
        }
    };
    if let Ok(mut codes) = codes.lock() {
        count.into_iter().for_each(|(code, count)| *codes.entry(code).or_default() += count);
    }
    failure
}

/// A statement_timeout does not count at COMMIT, where deferred triggers run and cursors are filled, and an operation may
/// be told to wait for a hundred years. So whoever takes too long is cancelled, and who does not hear that is ended, and
/// returned. Tells when every function was called with success.
fn watch(
    server: &Server,
    functions: &[Function],
    gone: &AtomicBool,
    all_called: &AtomicBool,
) -> Option<String> {
    let mut wire = server.wire();
    let mut deaf = None;
    while !gone.load(Ordering::Relaxed) {
        wire.run(&to_those_who_work_for("2 s", "pg_cancel_backend(pid)"));
        let late = wire.run(&to_those_who_work_for("60 s", "query, pg_terminate_backend(pid)"));
        if let Some(row) = late.rows.first() {
            deaf = Some(format!("no cancel was heard for a minute: {row:?}"));
        }
        let calls = counts(&mut wire);
        let called = functions.iter().all(|function| calls.contains_key(&function.name));
        all_called.store(called, Ordering::Relaxed);
        thread::sleep(LOOK);
    }
    deaf
}

fn to_those_who_work_for(long: &str, what: &str) -> String {
    format!(
        "SELECT {what} FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'
         AND state = 'active' AND clock_timestamp() - query_start > '{long}' AND pid <> pg_backend_pid()"
    )
}

/// When all have gone: no lock, and no sweep or call that would never end.
fn nothing_is_left(server: &Server) -> Result<()> {
    let mut wire = server.wire();
    let prepared =
        wire.run("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()");
    for row in &prepared.rows {
        wire.run(&format!("ROLLBACK PREPARED '{}'", row[0].as_deref().unwrap_or_default()));
    }
    wait_until("no lock of a key is left", || {
        wire.run("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 478")
            .value()
            == "0"
    });
    // However much there is to sweep.
    wire.run("SET statement_timeout = 0; SELECT idempotent_sweep()");
    Ok(())
}

/// Which functions came to an end without an error, and how often; all of them must have.
fn calls(server: &Server, functions: &[Function]) -> Result<String> {
    let counts = counts(&mut server.wire());
    let never: Vec<&str> = functions
        .iter()
        .map(|function| function.name.as_str())
        .filter(|name| !counts.contains_key(*name))
        .collect();
    if !never.is_empty() {
        return Err(format!("never called with success: {}", never.join(", ")).into());
    }
    let total: u64 = functions.iter().filter_map(|function| counts.get(&function.name)).sum();
    let (name, least) = functions
        .iter()
        .filter_map(|function| Some((function.name.as_str(), *counts.get(&function.name)?)))
        .min_by_key(|(_, count)| *count)
        .unwrap_or(("none", 0));
    Ok(format!(
        "{total} calls that succeeded of {} functions, the least of {name}: {least}",
        functions.len()
    ))
}

/// How often each function came to an end without an error, if ever.
fn counts(wire: &mut Wire) -> BTreeMap<String, u64> {
    let counted =
        wire.run("SELECT funcid::regproc::text, calls FROM pg_stat_user_functions WHERE calls > 0");
    let count =
        |row: &Vec<Option<String>>| Some((row[0].clone()?, row[1].as_deref()?.parse().ok()?));
    counted.rows.iter().filter_map(count).collect()
}
