//! Internal subtransactions: an error inside is undone, and the caller's transaction goes on.

use crate::pg::error::Kept;
use crate::pg::raw;
use cee_scape::call_with_sigsetjmp;
use pgrx::pg_sys;

/// A subtransaction as PL/pgSQL's EXCEPTION blocks use it (pl_exec.c, `exec_stmt_block`).
struct Subtransaction {
    context: pg_sys::MemoryContext,
    owner: pg_sys::ResourceOwner,
}

impl Subtransaction {
    fn begin() -> Self {
        // SAFETY: code of ours that calls this runs within a transaction; in a parallel operation
        // BeginInternalSubTransaction raises an error. The outer context outlives the subtransaction.
        unsafe {
            let outer =
                Self { context: pg_sys::CurrentMemoryContext, owner: pg_sys::CurrentResourceOwner };
            pg_sys::BeginInternalSubTransaction(std::ptr::null());
            pg_sys::MemoryContextSwitchTo(outer.context);
            outer
        }
    }

    fn commit(self) {
        // SAFETY: `begin` made the subtransaction, and `call` has left every one that it began, so it is the
        // current one; what was current before it still exists.
        unsafe {
            pg_sys::ReleaseCurrentSubTransaction();
            self.restore();
        }
    }

    fn roll_back(self) {
        // SAFETY: rolling back the current subtransaction ends the one that `begin` made: it is current, as
        // subtransactions begun within it are its children (xact.c).
        unsafe {
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
            self.restore();
        }
    }

    /// # Safety
    /// What was current before `begin` must still exist: it belongs to an outer level.
    unsafe fn restore(&self) {
        // SAFETY: the context and the owner still exist, which this function demands.
        unsafe {
            pg_sys::MemoryContextSwitchTo(self.context);
            pg_sys::CurrentResourceOwner = self.owner;
        }
    }
}

/// Does what waits for a lock of any kind, for at most `milliseconds`; `None` if the time was not
/// enough, and nothing was done.
///
/// lock_timeout raises an error in the middle of the lock manager, which only the end of a
/// subtransaction cleans up after. Every other error (cancel, deadlock) goes on to the caller.
///
/// As for [`call_keeping_error`], nothing in `wait` may have a destructor.
pub fn within_lock_timeout<T: Copy>(
    milliseconds: i32,
    wait: impl FnOnce() -> T + Copy,
) -> Option<T> {
    let limit = LockTimeout::at_most(milliseconds);
    let outcome = call_undoing_error(|| {
        let value = wait();
        // SAFETY: `call_undoing_error` catches the error, and the closure is Copy.
        unsafe { serve_interrupts() };
        value
    });
    drop(limit);
    match outcome {
        Ok(value) => Some(value),
        Err(error) if error.sqlstate() == LOCK_NOT_AVAILABLE => None,
        Err(error) => error.resume(),
    }
}

/// A `lock_timeout`, until dropped: also where the subtransaction itself cannot begin or end.
struct LockTimeout {
    before: i32,
}

impl LockTimeout {
    /// A stricter setting of the caller's stays in force.
    fn at_most(milliseconds: i32) -> Self {
        // SAFETY: LockTimeout is a number of this backend, which has one thread; the lock manager reads it
        // as it begins to wait.
        unsafe {
            let before = pg_sys::LockTimeout;
            let limit = if before > 0 { before.min(milliseconds) } else { milliseconds };
            pg_sys::LockTimeout = limit.max(1);
            Self { before }
        }
    }
}

impl Drop for LockTimeout {
    fn drop(&mut self) {
        // SAFETY: LockTimeout is a number of this backend, which has one thread.
        unsafe { pg_sys::LockTimeout = self.before };
    }
}

/// `CHECK_FOR_INTERRUPTS`: a lock timeout that fires as the lock is granted must be raised before
/// the subtransaction that was to catch it is over.
///
/// # Safety
/// It may raise an error past Rust: call it as `pg::raw` says.
pub unsafe fn serve_interrupts() {
    // SAFETY: InterruptPending is a number that signal handlers of this process set; a volatile read of it
    // is what CHECK_FOR_INTERRUPTS does.
    if unsafe { (&raw const pg_sys::InterruptPending).read_volatile() } != 0 {
        // SAFETY: this function demands to be called where an error may jump to `call_keeping_error`.
        unsafe { raw::ProcessInterrupts() };
    }
}

const LOCK_NOT_AVAILABLE: &str = "55P03";

/// Calls what may raise an error (a user's code, a wait); it comes back whole.
///
/// # Safety
/// After an error Postgres' state is that of a failed statement: the caller must roll back a
/// subtransaction around the call, or let the error go on.
pub unsafe fn call_keeping_error<T: Copy>(call: impl FnOnce() -> T + Copy) -> Result<T, Kept> {
    // SAFETY: this is PG_TRY/PG_CATCH (utils/elog.h). The frames between here and the error are Postgres'
    // own and the closure's, which is Copy and so has no destructor. What is read after the jump was set
    // before the call, and `result` is read only if there was none.
    unsafe {
        let context = pg_sys::CurrentMemoryContext;
        let exception_stack = pg_sys::PG_exception_stack;
        let error_context_stack = pg_sys::error_context_stack;
        let mut result = std::mem::MaybeUninit::<T>::uninit();
        let jumped = call_with_sigsetjmp(false, |buffer| {
            pg_sys::PG_exception_stack = std::ptr::from_ref(buffer).cast_mut().cast();
            result.write(call());
            0
        });
        pg_sys::PG_exception_stack = exception_stack;
        pg_sys::error_context_stack = error_context_stack;
        if jumped == 0 {
            return Ok(result.assume_init());
        }
        pg_sys::MemoryContextSwitchTo(context);
        let error = pg_sys::CopyErrorData();
        pg_sys::FlushErrorState();
        Err(Kept(error))
    }
}

/// Like [`call_keeping_error`], in a subtransaction that an error undoes.
pub fn call_undoing_error<T: Copy>(call: impl FnOnce() -> T + Copy) -> Result<T, Kept> {
    let subtransaction = Subtransaction::begin();
    // SAFETY: after an error the subtransaction is rolled back, below, before anything else is done.
    match unsafe { call_keeping_error(call) } {
        Ok(value) => {
            subtransaction.commit();
            Ok(value)
        }
        Err(error) => {
            // The error was copied into the caller's context, which this leaves alone.
            subtransaction.roll_back();
            Err(error)
        }
    }
}

/// Calls what may raise an error, and undoes what it did in any case.
pub fn call_undone<T: Copy>(call: impl FnOnce() -> T + Copy) -> Result<T, Kept> {
    let subtransaction = Subtransaction::begin();
    // SAFETY: the subtransaction is rolled back, below, before anything else is done.
    let returned = unsafe { call_keeping_error(call) };
    subtransaction.roll_back();
    returned
}

/// Whose error has undone a call.
pub enum Undone {
    /// The call's own.
    Failed(Kept),
    /// That of the check after it.
    Refused(Kept),
}

/// Like [`call_undoing_error`], but an error of the check that follows undoes the call as well. What the
/// check itself does is undone in any case.
pub fn call_then_check<T: Copy>(
    call: impl FnOnce() -> T + Copy,
    check: impl FnOnce() + Copy,
) -> Result<T, Undone> {
    let subtransaction = Subtransaction::begin();
    // SAFETY: after an error the subtransaction is rolled back, below, before anything else is done.
    let returned = unsafe { call_keeping_error(call) }.map_err(Undone::Failed);
    let returned =
        returned.and_then(|value| call_undone(check).map(|()| value).map_err(Undone::Refused));
    match returned {
        Ok(_) => subtransaction.commit(),
        // The error was copied into the caller's context, which this leaves alone.
        Err(_) => subtransaction.roll_back(),
    }
    returned
}
