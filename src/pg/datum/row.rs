//! The columns of a row, as Postgres wants them: values and nulls side by side.

use crate::pg::raw;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::error::{Code, Error};

/// Room for the columns that we know, and for some that an administrator has added: they stay null.
pub const ROOM: usize = 32;

/// The columns of one row, by position; null where nothing was set.
#[derive(Clone)]
pub struct Columns {
    values: [Datum; ROOM],
    nulls: [bool; ROOM],
}

/// Whether a row type has the columns this library knows, and no more than there is room for.
///
/// # Safety
/// The descriptor must be valid.
pub unsafe fn fits(descriptor: pg_sys::TupleDesc, known: usize) -> bool {
    // SAFETY: as the caller says.
    let there = unsafe { (*descriptor).natts };
    usize::try_from(there).is_ok_and(|there| (known..=ROOM).contains(&there))
}

/// Columns of ours are missing, or there are too many others: 55000.
pub fn do_not_fit() -> Error {
    Error::new(
        Code::ObjectNotReady,
        "a table or type of pg_idempotent has other columns than its own",
    )
    .detail(format!(
        "Columns may be added behind those that CREATE EXTENSION made, up to {ROOM} in all."
    ))
    .hint("Restore the extension: DROP EXTENSION pg_idempotent; CREATE EXTENSION pg_idempotent;")
}

impl Columns {
    pub fn null() -> Self {
        Self { values: [Datum::from(0); ROOM], nulls: [true; ROOM] }
    }

    /// # Safety
    /// The tuple must be of the descriptor, which `fits` has let through. What is read points
    /// into the tuple.
    pub unsafe fn of(tuple: pg_sys::HeapTuple, descriptor: pg_sys::TupleDesc) -> Self {
        let mut columns = Self::null();
        // SAFETY: as the caller says, so there is room for every column.
        unsafe {
            raw::heap_deform_tuple(
                tuple,
                descriptor,
                columns.values.as_mut_ptr(),
                columns.nulls.as_mut_ptr(),
            );
        }
        columns
    }

    /// A palloc'd tuple with copies of the values. An error jumps over this frame.
    ///
    /// # Safety
    /// `fits` must have let the descriptor through, and each value be of its column's type; as
    /// for everything in `uncaught` that may raise an error.
    pub unsafe fn form(&self, descriptor: pg_sys::TupleDesc) -> pg_sys::HeapTuple {
        // SAFETY: as the caller says.
        unsafe { raw::heap_form_tuple(descriptor, self.values.as_ptr(), self.nulls.as_ptr()) }
    }

    pub fn set(&mut self, column: usize, value: Option<Datum>) {
        self.nulls[column] = value.is_none();
        self.values[column] = value.unwrap_or(Datum::from(0));
    }

    /// How many columns are set, if those are the first ones.
    pub fn set_before_nulls(&self) -> Option<usize> {
        let first = self.nulls.iter().position(|null| *null).unwrap_or(ROOM);
        self.nulls[first..].iter().all(|null| *null).then_some(first)
    }

    pub fn get(&self, column: usize) -> Option<Datum> {
        (!self.nulls[column]).then_some(self.values[column])
    }
}
