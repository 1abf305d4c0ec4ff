//! The columns of a row, as Postgres wants them: values and nulls side by side.

use crate::pg::raw;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::error::{Code, DAMAGED, Error};

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
    // SAFETY: the descriptor is valid, which this function demands.
    let there = unsafe { (*descriptor).natts };
    usize::try_from(there).is_ok_and(|there| (known..=ROOM).contains(&there))
}

/// Whether a table has the columns this library knows, of these types, and no more than there is room for:
/// values are written and read as what they are taken for, and a pointer of another type is none.
///
/// # Safety
/// The descriptor must be valid.
pub unsafe fn has(descriptor: pg_sys::TupleDesc, known: &[pg_sys::Oid]) -> bool {
    // SAFETY: the descriptor is valid, which this function demands.
    unsafe {
        fits(descriptor, known.len())
            && attributes(descriptor)
                .iter()
                .zip(known)
                .all(|(column, known)| column.atttypid == *known)
    }
}

/// # Safety
/// The descriptor must be valid.
unsafe fn attributes<'a>(descriptor: pg_sys::TupleDesc) -> &'a [pg_sys::FormData_pg_attribute] {
    // SAFETY: a valid descriptor has `natts` of them, behind one another (access/tupdesc.h). Since Postgres 18
    // as many of `CompactAttribute` come before.
    unsafe {
        let count = (*descriptor).natts as usize;
        #[cfg(not(feature = "pg18"))]
        let first = (&raw const (*descriptor).attrs).cast::<pg_sys::FormData_pg_attribute>();
        #[cfg(feature = "pg18")]
        let first = (&raw const (*descriptor).compact_attrs)
            .cast::<pg_sys::CompactAttribute>()
            .add(count)
            .cast::<pg_sys::FormData_pg_attribute>();
        std::slice::from_raw_parts(first, count)
    }
}

/// Columns of ours are missing or of other types, or there are too many others: 55000.
pub fn do_not_fit() -> Error {
    Error::new(
        Code::ObjectNotReady,
        "a table or type of pg_idempotent has other columns than its own",
    )
    .detail(format!(
        "Columns may be added behind those that CREATE EXTENSION made, up to {ROOM} in all; those keep their types."
    ))
    .hint(DAMAGED)
}

impl Columns {
    pub fn null() -> Self {
        Self { values: [Datum::from(0); ROOM], nulls: [true; ROOM] }
    }

    /// # Safety
    /// The tuple must be of the descriptor, which `fits` has let through. What is read points
    /// into the tuple.
    pub unsafe fn of(tuple: pg_sys::HeapTuple, descriptor: pg_sys::TupleDesc) -> Self {
        // SAFETY: the tuple is of the descriptor, which this function demands. Where a column was added with
        // a default, Postgres copies the value that old rows lack, for which memory may run out: that error
        // is caught. Without one, deforming raises none.
        unsafe {
            let mut columns = Self::null();
            let (values, nulls) = (columns.values.as_mut_ptr(), columns.nulls.as_mut_ptr());
            if (*descriptor).constr.is_null() || (*(*descriptor).constr).missing.is_null() {
                raw::heap_deform_tuple(tuple, descriptor, values, nulls);
            } else {
                pg_sys::heap_deform_tuple(tuple, descriptor, values, nulls);
            }
            columns
        }
    }

    /// Like `of`, for callers that catch its errors themselves.
    ///
    /// # Safety
    /// As for `of`. It may raise an error past Rust: call it as `pg::raw` says.
    pub unsafe fn of_raw(tuple: pg_sys::HeapTuple, descriptor: pg_sys::TupleDesc) -> Self {
        let mut columns = Self::null();
        let (values, nulls) = (columns.values.as_mut_ptr(), columns.nulls.as_mut_ptr());
        // SAFETY: the tuple is of the descriptor, and `fits` has let that through, which this function
        // demands: both arrays have room for every column.
        unsafe { raw::heap_deform_tuple(tuple, descriptor, values, nulls) };
        columns
    }

    /// A palloc'd tuple with copies of the values. An error jumps over this frame.
    ///
    /// # Safety
    /// `fits` must have let the descriptor through, and each value be of its column's type. It may raise
    /// an error past Rust: call it as `pg::raw` says.
    pub unsafe fn form(&self, descriptor: pg_sys::TupleDesc) -> pg_sys::HeapTuple {
        // SAFETY: both arrays have at least as many elements as the descriptor has columns, as `fits` has let
        // it through, and the values are of their columns' types, which this function demands.
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
