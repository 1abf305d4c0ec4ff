//! What `pg_stat_activity` shows of a backend of ours that sleeps.

#[cfg(any(feature = "pg17", feature = "pg18"))]
use std::cell::Cell;
#[cfg(any(feature = "pg17", feature = "pg18"))]
use std::ffi::CStr;

/// Why a process of ours sleeps.
#[derive(Clone, Copy)]
pub enum Sleep {
    /// A call waits for the holder of a lease, or for another session's glance at it.
    Lease,
    /// A sweeper rests.
    Sweeper,
    /// The launcher waits for the next round.
    Launcher,
}

#[cfg(any(feature = "pg17", feature = "pg18"))]
impl Sleep {
    const NAMES: [&'static CStr; 3] =
        [c"IdempotentLease", c"IdempotentSweeper", c"IdempotentLauncher"];

    /// The number of the wait event, which the server gives it the first time.
    pub fn event(self) -> u32 {
        thread_local! {
            static EVENTS: Cell<[Option<u32>; 3]> = const { Cell::new([None; 3]) };
        }
        let mut events = EVENTS.get();
        let index = self as usize;
        if let Some(event) = events[index] {
            return event;
        }
        // SAFETY: the name is NUL-terminated and is copied; a name that is known already has its number. It raises an
        // error where the server has no room for another name of an extension's.
        let event = unsafe { pgrx::pg_sys::WaitEventExtensionNew(Self::NAMES[index].as_ptr()) };
        events[index] = Some(event);
        EVENTS.set(events);
        event
    }
}

#[cfg(any(feature = "pg15", feature = "pg16"))]
impl Sleep {
    /// Before Postgres 17 an extension's events have no names.
    pub fn event(self) -> u32 {
        pgrx::pg_sys::PG_WAIT_EXTENSION
    }
}
