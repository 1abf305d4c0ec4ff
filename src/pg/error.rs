//! Errors on their way out: from Rust's `Result` and panics to Postgres' `ereport`, without loss.
//!
//! pgrx reports only SQLSTATEs of its closed enum, drops the context of an error it caught and, with
//! `RUST_BACKTRACE` set, appends a backtrace to DETAIL. Callers of an idempotency store decide by
//! SQLSTATE, ours (class ID) and those of their own handlers, so errors leave through this module
//! instead: unwinding ends in [`catch`], and [`Raised::throw`] jumps from a frame without
//! destructors.

use crate::pg::datum::encoding::{to_server, to_utf8};
use crate::pg::memory;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgLogLevel, pg_sys};
use rules::error::Error;
use std::any::Any;
use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

unsafe extern "C-unwind" {
    // The functions themselves, not pgrx's wrappers of them, which would catch what they throw.
    #[link_name = "ThrowErrorData"]
    fn throw_error_data(edata: *mut pg_sys::ErrorData);
    #[link_name = "ReThrowError"]
    fn rethrow_error(edata: *mut pg_sys::ErrorData) -> !;
}

/// What Postgres reports to the second of two backends that write one row of a catalog at once: never
/// translated, and not a bug.
const LOST_RACES: [&CStr; 2] = [c"tuple concurrently updated", c"tuple concurrently deleted"];

/// An error of Postgres or of a user's function, kept whole while Rust unwinds.
pub struct Kept(pub *mut pg_sys::ErrorData);

// SAFETY: a backend has one thread, so the pointer never reaches another; the payload of a panic must be
// `Send` by its type.
unsafe impl Send for Kept {}

impl Kept {
    pub fn sqlstate(&self) -> String {
        // SAFETY: a `Kept` is made from CopyErrorData alone, and what that pallocs outlives it.
        unpack(unsafe { (*self.0).sqlerrcode })
    }

    /// The same error without DETAIL, where that would show what the caller may not see.
    #[must_use]
    pub fn without_detail(self) -> Self {
        // SAFETY: CopyErrorData made the error data for this `Kept` alone; null stands for no DETAIL.
        unsafe {
            (*self.0).detail = std::ptr::null_mut();
            (*self.0).detail_log = std::ptr::null_mut();
        }
        self
    }

    /// The same error, or 40001 in place of XX000 if another session was quicker. For statements of
    /// our own: what a handler's mean is the handler's affair.
    #[must_use]
    pub fn or_lost_race(self) -> Self {
        // SAFETY: CopyErrorData made the error data for this `Kept` alone. Its message is null or a
        // NUL-terminated copy, which DETAIL takes over.
        unsafe {
            let message = (*self.0).message;
            let lost = !message.is_null()
                && (*self.0).sqlerrcode == pack("XX000")
                && LOST_RACES.contains(&CStr::from_ptr(message));
            if lost {
                (*self.0).sqlerrcode = pack("40001");
                (*self.0).message =
                    to_server("could not serialize access due to a concurrent change");
                (*self.0).detail = message;
                (*self.0).hint = to_server("Retry the transaction.");
            }
        }
        self
    }

    /// Another error in its place.
    #[must_use]
    pub fn replaced(self, by: &Error) -> Self {
        // SAFETY: CopyErrorData made the error data for this `Kept` alone; null stands for no DETAIL and no HINT.
        unsafe {
            (*self.0).sqlerrcode = pack(by.code.sqlstate());
            (*self.0).message = to_server(&by.message);
            (*self.0).detail = by.detail.as_deref().map_or(std::ptr::null_mut(), to_server);
            (*self.0).hint = by.hint.as_deref().map_or(std::ptr::null_mut(), to_server);
        }
        self
    }

    /// Goes on unwinding towards [`catch`], which rethrows the error as it was.
    pub fn resume(self) -> ! {
        resume_unwind(Box::new(self))
    }
}

/// An error ready to be thrown; plain data, so that jumping over it leaks nothing.
#[derive(Clone, Copy)]
pub enum Raised {
    New(*mut pg_sys::ErrorData),
    Again(*mut pg_sys::ErrorData),
}

/// Runs `body` and turns whatever ends it early into an error that can be thrown.
pub fn catch<T>(body: impl FnOnce() -> Result<T, Error>) -> Result<T, Raised> {
    let ended = catch_unwind(AssertUnwindSafe(body));
    let ran_out = memory::ran_out();
    let raised = match ended {
        Ok(Ok(value)) if !ran_out => return Ok(value),
        Ok(Ok(_)) => describe(|| from_error(&memory::out_of_memory())),
        Ok(Err(error)) => describe(|| from_error(&error)),
        Err(payload) => describe(move || from_payload(payload)),
    };
    if memory::ran_out() || ran_out {
        memory::forget_caches();
    }
    Err(raised)
}

/// Describing an error allocates; if even that fails, what is left to say is that memory ran out.
fn describe(describe: impl FnOnce() -> Raised) -> Raised {
    catch_unwind(AssertUnwindSafe(describe)).unwrap_or_else(|_| {
        // SAFETY: ErrorData has numbers, booleans and pointers, for which zero is a value.
        static mut OUT_OF_MEMORY: pg_sys::ErrorData = unsafe { std::mem::zeroed() };
        // SAFETY: a backend has one thread, and no reference to the static is made: it is written by its
        // address, here alone.
        unsafe {
            let edata = &raw mut OUT_OF_MEMORY;
            (*edata).elevel = PgLogLevel::ERROR as i32;
            (*edata).sqlerrcode = pack("53200");
            (*edata).message = c"out of memory".as_ptr().cast_mut();
            Raised::New(edata)
        }
    })
}

impl Raised {
    /// SQLSTATE and message, for a log.
    pub fn describe(self) -> (String, String) {
        let (Self::New(edata) | Self::Again(edata)) = self;
        // SAFETY: `new_error`, `describe` and CopyErrorData make the error data, palloc'd or static; a
        // message is null or NUL-terminated.
        unsafe {
            let message = (*edata).message;
            let message = if message.is_null() {
                String::new()
            } else {
                let bytes = CStr::from_ptr(message).to_bytes();
                String::from_utf8_lossy(to_utf8(bytes)).into_owned()
            };
            (unpack((*edata).sqlerrcode), message)
        }
    }

    /// Leaves for the nearest error handler of Postgres.
    ///
    /// # Safety
    /// No frame between the caller and Postgres may have a destructor pending.
    pub unsafe fn throw(self) -> ! {
        match self {
            // SAFETY: ThrowErrorData copies the error data before it jumps, and `new_error` and `describe`
            // have filled in what it reads; no frame has a destructor pending, which this function demands.
            Raised::New(edata) => unsafe { throw_error_data(edata) },
            // SAFETY: ReThrowError copies the error data, which CopyErrorData made, before it jumps; no frame
            // has a destructor pending, which this function demands.
            Raised::Again(edata) => unsafe { rethrow_error(edata) },
        }
        unreachable!("an error was thrown at a level below ERROR")
    }
}

fn from_error(error: &Error) -> Raised {
    new_error(error.code.sqlstate(), &error.message, error.detail.as_deref(), error.hint.as_deref())
}

fn from_payload(payload: Box<dyn Any + Send>) -> Raised {
    let payload = match payload.downcast::<Kept>() {
        Ok(kept) => return Raised::Again(kept.0),
        Err(payload) => payload,
    };
    let report = match payload.downcast::<CaughtError>() {
        Ok(caught) => match *caught {
            CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => report,
            CaughtError::RustPanic { ereport, .. } => ereport,
        },
        Err(payload) => {
            let what = payload
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| payload.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "unknown cause".to_owned());
            return new_error(
                "XX000",
                "internal error in pg_idempotent",
                Some(&what),
                Some("This is a bug: please report it with the statement that led here."),
            );
        }
    };
    let state = unpack(report.sql_error_code() as i32);
    new_error(&state, report.message(), report.detail(), report.hint())
}

/// Postgres' MAKE_SQLSTATE (utils/elog.h).
fn pack(sqlstate: &str) -> i32 {
    sqlstate.bytes().rev().fold(0, |packed, byte| (packed << 6) + ((i32::from(byte) - 0x30) & 0x3f))
}

/// The SQLSTATE that `code` packs (the inverse of `MAKE_SQLSTATE`).
fn unpack(mut code: i32) -> String {
    (0..5)
        .map(|_| {
            let character = char::from((code & 0x3f) as u8 + b'0');
            code >>= 6;
            character
        })
        .collect()
}

fn new_error(sqlstate: &str, message: &str, detail: Option<&str>, hint: Option<&str>) -> Raised {
    // SAFETY: palloc0 gives zeroed memory of the type's size, and zero is a value for every field, as in
    // errstart (elog.c). The strings are palloc'd in the current context, and ThrowErrorData copies them
    // before that is left.
    unsafe {
        let edata: *mut pg_sys::ErrorData = pg_sys::palloc0(size_of::<pg_sys::ErrorData>()).cast();
        (*edata).elevel = PgLogLevel::ERROR as i32;
        (*edata).sqlerrcode = pack(sqlstate);
        (*edata).message = to_server(message);
        (*edata).detail = detail.map_or(std::ptr::null_mut(), to_server);
        (*edata).hint = hint.map_or(std::ptr::null_mut(), to_server);
        Raised::New(edata)
    }
}
