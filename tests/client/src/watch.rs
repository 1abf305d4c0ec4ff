//! Waiting for something to be so, by looking at what the server shows: never for a time.

use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;

/// Long enough for the slowest machine. Reaching it is a failure, not a measure.
const PATIENCE: Duration = Duration::from_mins(2);
/// A breath between two looks, so that those who are watched get the processor.
const BREATH: Duration = Duration::from_millis(1);

/// Looks until it is so; panics with the words when it never is.
#[track_caller]
pub fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !so() {
        assert!(started.elapsed() < PATIENCE, "never so: {what}");
        thread::sleep(BREATH);
    }
}

/// Looks for so long whether it stays so: for what must not happen, which nothing announces.
#[track_caller]
pub fn stays(what: &str, long: Duration, mut so: impl FnMut() -> bool) {
    let started = Instant::now();
    while started.elapsed() < long {
        assert!(so(), "no longer so: {what}");
        thread::sleep(BREATH);
    }
}

/// Until this backend stands in the lock manager's queue for a key.
#[track_caller]
pub fn wait_for_lock(admin: &mut Client, pid: i32) {
    wait_until("the claim waits in the lock manager", || {
        yes(
            admin,
            "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $1 AND NOT granted)
                AND EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock')",
            pid,
        )
    });
}

/// Until this backend sleeps inside a statement: for waits that are not in the lock manager.
#[track_caller]
pub fn wait_for_nap(admin: &mut Client, pid: i32) {
    wait_until("the claim sleeps", || {
        yes(
            admin,
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND state = 'active'
                AND wait_event_type IN ('Extension', 'Timeout', 'IPC', 'Activity'))",
            pid,
        )
    });
}

/// Until this backend is no more.
#[track_caller]
pub fn wait_for_end(admin: &mut Client, pid: i32) {
    wait_until("the backend is gone", || {
        yes(admin, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)", pid)
    });
}

/// Ends a backend and waits until it is gone.
#[track_caller]
pub fn terminate(admin: &mut Client, pid: i32) {
    assert!(yes(admin, "SELECT pg_terminate_backend($1)", pid), "no backend {pid} to terminate");
    wait_for_end(admin, pid);
}

fn yes(admin: &mut Client, question: &str, pid: i32) -> bool {
    admin.query_one(question, &[&pid]).expect("the admin's connection answers").get(0)
}
