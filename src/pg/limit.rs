//! How long a call may wait in all, whatever is in its way.
//!
//! What waits by itself (a lock of a key, a lease, a table) asks what remains. Everything else that waits in
//! Postgres' lock manager while the call is at work, in an index or in a statement of SQL, is ended by
//! lock_timeout, which is set for that. What a handler waits for is its own affair.

use crate::pg::clock;
use crate::pg::error::Kept;
use pgrx::pg_sys;
use rules::error::{Code, Error};
use rules::{Micros, Timestamp};
use std::cell::Cell;

/// The least time that is left to Postgres itself: its own locks are held while a row is written, and a call
/// that waits for nobody still gets past those.
const MOMENT: Micros = 1_000_000;
const INSTANT: Micros = 10_000;

#[derive(Clone, Copy)]
struct Of {
    began: Timestamp,
    wait: Micros,
    /// The session's lock_timeout.
    session: i32,
    /// The least time that is left to Postgres itself.
    least: Micros,
}

thread_local! {
    static OF_CALL: Cell<Option<Of>> = const { Cell::new(None) };
}

/// While it lives, the call waits no longer than it says.
#[must_use]
pub struct Limit {
    /// Of the call that this one was made from.
    outer: Option<Of>,
}

impl Limit {
    pub fn begin(wait: Micros) -> Self {
        let of = Of { began: clock::now(), wait, session: lock_timeout(), least: MOMENT };
        apply(&of);
        Self { outer: OF_CALL.replace(Some(of)) }
    }

    /// Another length, from the beginning of the call on: its settings are known by now.
    pub fn set(&self, wait: Micros) {
        if let Some(of) = OF_CALL.get() {
            let of = Of { wait, ..of };
            apply(&of);
            OF_CALL.set(Some(of));
        }
    }

    /// The same for what waits for others in Postgres itself.
    pub fn set_for_sql(&self, wait: Micros) {
        if let Some(of) = OF_CALL.get() {
            OF_CALL.set(Some(Of { least: INSTANT, ..of }));
        }
        self.set(wait);
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        if let Some(of) = OF_CALL.replace(self.outer) {
            set_lock_timeout(of.session);
        }
    }
}

/// A stricter setting of the session's stays in force.
fn apply(of: &Of) {
    let wait = i32::try_from(of.wait.max(of.least) / 1_000).unwrap_or(i32::MAX);
    set_lock_timeout(if of.session > 0 { of.session.min(wait) } else { wait });
}

/// Until when the call waits; `None` if only the session's own timeouts end that.
pub fn until() -> Option<Timestamp> {
    OF_CALL.get().map(|of| of.began.saturating_add(of.wait))
}

/// How long the call may still wait.
pub fn remaining() -> Option<Micros> {
    let of = OF_CALL.get()?;
    if of.wait == 0 {
        return Some(0);
    }
    Some(of.began.saturating_add(of.wait).saturating_sub(clock::now()).max(0))
}

/// Calls what is not ours: it waits as its session says.
pub fn lifted<T>(body: impl FnOnce() -> T) -> T {
    struct Lifted(Option<Of>);
    impl Drop for Lifted {
        fn drop(&mut self) {
            // What was called may have set it.
            let limit = self.0.map(|of| Of { session: lock_timeout(), ..of });
            limit.as_ref().inspect(|of| apply(of));
            OF_CALL.set(limit);
        }
    }
    let lifted = Lifted(OF_CALL.take());
    if let Some(of) = lifted.0 {
        set_lock_timeout(of.session);
    }
    body()
}

/// What an error of our own statements is to the caller: a lock that was not granted within the wait is no
/// error of its own.
pub fn told(error: Kept) -> Kept {
    if OF_CALL.get().is_none() || error.sqlstate() != LOCK_NOT_AVAILABLE {
        return error;
    }
    error.replaced(
        &in_the_way("another transaction is in the way")
            .detail("It has locked a row or a table that the call needs, and may yet roll back."),
    )
}

pub const LOCK_NOT_AVAILABLE: &str = "55P03";

/// The wait is over, and what was waited for still there.
pub fn in_the_way(what: impl Into<String>) -> Error {
    Error::new(Code::InProgress, what)
        .hint("Retry, or wait for longer: pass wait, or set idempotent.default_wait.")
}

fn lock_timeout() -> i32 {
    // SAFETY: LockTimeout is a number of this backend, which has one thread.
    unsafe { pg_sys::LockTimeout }
}

fn set_lock_timeout(milliseconds: i32) {
    // SAFETY: LockTimeout is a number of this backend, which has one thread; the lock manager reads it as it
    // begins to wait.
    unsafe { pg_sys::LockTimeout = milliseconds };
}
