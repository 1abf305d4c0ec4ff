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
        // SAFETY: called within a transaction, by a function that is parallel unsafe.
        unsafe {
            let outer =
                Self { context: pg_sys::CurrentMemoryContext, owner: pg_sys::CurrentResourceOwner };
            pg_sys::BeginInternalSubTransaction(std::ptr::null());
            pg_sys::MemoryContextSwitchTo(outer.context);
            outer
        }
    }

    fn commit(self) {
        // SAFETY: the subtransaction that `begin` began is the current one.
        unsafe {
            pg_sys::ReleaseCurrentSubTransaction();
            self.restore();
        }
    }

    fn roll_back(self) {
        // SAFETY: as above.
        unsafe {
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
            self.restore();
        }
    }

    /// # Safety
    /// What was current before `begin` must still exist: it belongs to an outer level.
    unsafe fn restore(&self) {
        // SAFETY: as the caller says.
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
    // SAFETY: a global of this backend, set back on both ways out. A stricter setting of the
    // caller's stays in force.
    let before = unsafe { pg_sys::LockTimeout };
    let limit = if before > 0 { before.min(milliseconds) } else { milliseconds };
    // SAFETY: see above.
    unsafe { pg_sys::LockTimeout = limit.max(1) };
    let outcome = call_undoing_error(|| {
        let value = wait();
        // SAFETY: an error is as welcome here as in the wait.
        unsafe { serve_interrupts() };
        value
    });
    // SAFETY: see above.
    unsafe { pg_sys::LockTimeout = before };
    match outcome {
        Ok(value) => Some(value),
        Err(error) if error.sqlstate() == LOCK_NOT_AVAILABLE => None,
        Err(error) => error.resume(),
    }
}

/// `CHECK_FOR_INTERRUPTS`: a lock timeout that fires as the lock is granted must be raised before
/// the subtransaction that was to catch it is over.
///
/// # Safety
/// As for `call_keeping_error`.
pub unsafe fn serve_interrupts() {
    // SAFETY: a flag that signal handlers set.
    if unsafe { (&raw const pg_sys::InterruptPending).read_volatile() } != 0 {
        // SAFETY: at a point where an error may be raised.
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
    // SAFETY: this is PG_TRY/PG_CATCH (utils/elog.h). The frames between here and the error are
    // Postgres' own and the Copy closure's, so nothing is jumped over that has a destructor, and
    // what is read after the jump was set before the call.
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

/// As [`call_keeping_error`], in a subtransaction that an error undoes.
pub fn call_undoing_error<T: Copy>(call: impl FnOnce() -> T + Copy) -> Result<T, Kept> {
    let subtransaction = Subtransaction::begin();
    // SAFETY: an error is followed by the rollback of the subtransaction.
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
