//! The database's clock, the only one there is.

use crate::pg::raw;
use crate::pg::wait_event::Sleep;
use pgrx::pg_sys;
use rules::{Micros, Timestamp};
use std::ffi::CStr;

/// What `clock_timestamp()` says: leases and expiry go on while a transaction's `now()` stands still.
pub fn now() -> Timestamp {
    // SAFETY: GetCurrentTimestamp calls gettimeofday and cannot raise an error.
    unsafe { raw::GetCurrentTimestamp() }
}

/// The processor time that this process has used.
pub fn processor_time() -> Micros {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec of this frame's, which the call fills in.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec * 1_000_000 + time.tv_nsec / 1_000
}

/// A time in ISO 8601, in the session's time zone; `None` for one without end.
pub fn text(time: Timestamp) -> Option<String> {
    if time == Timestamp::MAX || time == Timestamp::MIN {
        return None;
    }
    // SAFETY: a timestamptz with its type's OID. Without a buffer JsonEncodeDateTime pallocs the result,
    // NUL-terminated (utils/adt/json.c), and it is copied before the context is left.
    let text = unsafe {
        CStr::from_ptr(pg_sys::JsonEncodeDateTime(
            std::ptr::null_mut(),
            pg_sys::Datum::from(time),
            pg_sys::TIMESTAMPTZOID,
            std::ptr::null(),
        ))
    };
    Some(text.to_string_lossy().into_owned())
}

/// Serves a cancel, a termination or a timeout, for work in Rust that takes long.
pub fn look_up() {
    pgrx::check_for_interrupts!();
}

/// Sleeps on the backend's latch, so that cancel, termination and timeouts are served at once.
pub fn sleep(micros: Micros, why: Sleep) {
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    // A latch knows milliseconds; rounded up, or the last one would be spent spinning.
    let milliseconds = micros / 1_000 + 1;
    let event = why.event();
    // SAFETY: MyLatch is initialised when a process connects to shared memory, before any code of ours can
    // sleep, and only its own process waits on it.
    unsafe {
        pg_sys::WaitLatch(pg_sys::MyLatch, events as i32, milliseconds, event);
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    pgrx::check_for_interrupts!();
}
