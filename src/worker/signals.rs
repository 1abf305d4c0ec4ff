//! Signals of a worker, set up as Postgres' own background processes do.

use pgrx::pg_sys;
use std::ffi::c_int;

unsafe extern "C-unwind" {
    // The functions themselves: pgrx's wrappers are not made to run within a signal handler.
    // postmaster/interrupt.h
    fn SignalHandlerForConfigReload(signal: c_int);
    fn SignalHandlerForShutdownRequest(signal: c_int);
}

/// SIGTERM sets a flag, for a loop that looks at it: a worker that is ended where it stands says so
/// to the server log with a FATAL, as if something had gone wrong.
pub fn set_up() {
    // SAFETY: both handlers are Postgres' own, safe in a signal, and are set while signals are blocked.
    unsafe {
        handle(pg_sys::SIGTERM, SignalHandlerForShutdownRequest);
        handle(pg_sys::SIGHUP, SignalHandlerForConfigReload);
        pg_sys::BackgroundWorkerUnblockSignals();
    }
}

/// # Safety
/// The handler must be safe in a signal.
unsafe fn handle(signal: u32, handler: unsafe extern "C-unwind" fn(c_int)) {
    // SAFETY: the handler is safe in a signal, which this function demands. (Postgres 18 has two functions
    // behind the name.)
    unsafe {
        #[cfg(not(feature = "pg18"))]
        pg_sys::pqsignal(signal as c_int, Some(handler));
        #[cfg(feature = "pg18")]
        pg_sys::pqsignal_be(signal as c_int, Some(handler));
    }
}

/// Whether the process was asked to leave.
pub fn is_told_to_leave() -> bool {
    // SAFETY: a signal handler of this process sets the flag; it is read once, as volatile.
    unsafe { (&raw const pg_sys::ShutdownRequestPending).read_volatile() != 0 }
}

/// Reads the configuration anew if that was asked for.
pub fn reload() {
    // SAFETY: a signal handler of this process sets the flag, which is read and cleared as volatile. The workers
    // call this between transactions, where ProcessConfigFile may change settings.
    unsafe {
        let pending = &raw mut pg_sys::ConfigReloadPending;
        if pending.read_volatile() != 0 {
            pending.write_volatile(0);
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
    }
}
