//! The arguments of a call, and what it returns of rows.

use crate::pg::datum::row::{self, Columns};
use crate::pg::datum::text::Text;
use crate::pg::datum::{array, varlena};
use crate::pg::{raw, subtransaction};
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::duration::duration;
use rules::error::Error;
use rules::{Micros, Timestamp};

/// What a function's body gives back; `None` is SQL's null.
pub type Returned = Result<Option<Datum>, Error>;

/// The arguments of a call, by position.
pub struct Args(pg_sys::FunctionCallInfo);

impl Args {
    /// # Safety
    /// `fcinfo` must be that of a call in progress, which outlives the arguments.
    pub unsafe fn of(fcinfo: pg_sys::FunctionCallInfo) -> Self {
        Self(fcinfo)
    }

    /// The argument, or `None` for null.
    pub fn datum(&self, index: usize) -> Option<Datum> {
        // SAFETY: the SQL declarations in sql/ give every function the arguments that it reads.
        unsafe {
            let argument = (*self.0).args.as_slice((*self.0).nargs as usize).get(index)?;
            (!argument.isnull).then_some(argument.value)
        }
    }

    pub fn text(&self, index: usize) -> Option<Text<'_>> {
        // SAFETY: declared text; arguments outlive the call.
        self.datum(index).map(|datum| unsafe { Text::from_datum(datum) })
    }

    /// The elements of a text array, in order; `None` for those that are null.
    ///
    /// # Errors
    /// 53200 if there is not enough memory for them.
    pub fn texts(&self, index: usize) -> Result<Option<Vec<Option<Text<'_>>>>, Error> {
        // SAFETY: declared text[]; arguments outlive the call.
        self.datum(index).map(|datum| unsafe { array::texts(datum) }).transpose()
    }

    /// Returns rows of one column, for a function that is declared to return a set.
    pub fn return_rows(&self, values: impl Iterator<Item = Datum>) -> Returned {
        // SAFETY: fcinfo is that of the call; a caller that cannot take rows gets an error
        // (funcapi.c). The one column is of the type that the function is declared with, and what
        // is put into the store is copied.
        unsafe {
            pg_sys::InitMaterializedSRF(self.0, pg_sys::MAT_SRF_USE_EXPECTED_DESC);
            let rows = (*self.0).resultinfo.cast::<pg_sys::ReturnSetInfo>();
            for value in values {
                // The pointers are to const since 17, to mut before.
                let (mut row, mut nulls) = ([value], [false]);
                pg_sys::tuplestore_putvalues(
                    (*rows).setResult,
                    (*rows).setDesc,
                    row.as_mut_ptr(),
                    nulls.as_mut_ptr(),
                );
            }
        }
        Ok(None)
    }

    /// Returns a row, for a function that is declared with OUT parameters.
    ///
    /// # Errors
    /// 55000 if it is declared with other ones than this library knows.
    pub fn return_row(&self, values: &[Option<Datum>]) -> Returned {
        let mut columns = Columns::null();
        for (column, value) in values.iter().enumerate() {
            columns.set(column, *value);
        }
        let mut descriptor = std::ptr::null_mut();
        // SAFETY: fcinfo is that of the call. The descriptor is as the function is declared, with as
        // many columns as there are values, and each is of its column's type; all are copied.
        unsafe {
            pg_sys::get_call_result_type(self.0, std::ptr::null_mut(), &mut descriptor);
            if descriptor.is_null() || !row::fits(descriptor, values.len()) {
                return Err(row::do_not_fit());
            }
            let descriptor = pg_sys::BlessTupleDesc(descriptor);
            let compose = || raw::HeapTupleHeaderGetDatum((*columns.form(descriptor)).t_data);
            let composed = subtransaction::call_keeping_error(compose);
            Ok(Some(composed.unwrap_or_else(|error| error.resume())))
        }
    }

    pub fn bytea(&self, index: usize) -> Option<&[u8]> {
        // SAFETY: declared bytea; arguments outlive the call.
        self.datum(index).map(|datum| unsafe { varlena::slice(datum) })
    }

    pub fn bool(&self, index: usize) -> bool {
        self.datum(index).is_some_and(|datum| datum.value() != 0)
    }

    pub fn int4(&self, index: usize) -> Option<i32> {
        self.datum(index).map(|datum| datum.value() as i32)
    }

    pub fn int8(&self, index: usize) -> Option<i64> {
        self.datum(index).map(|datum| datum.value() as i64)
    }

    pub fn oid(&self, index: usize) -> Option<pg_sys::Oid> {
        self.datum(index).map(|datum| pg_sys::Oid::from(datum.value() as u32))
    }

    pub fn timestamp(&self, index: usize) -> Option<Timestamp> {
        self.int8(index)
    }

    pub fn uuid(&self, index: usize) -> Option<[u8; 16]> {
        // SAFETY: declared uuid, which is 16 bytes passed by reference.
        self.datum(index).map(|datum| unsafe { *datum.cast_mut_ptr::<[u8; 16]>() })
    }

    /// A duration in microseconds, at least `min` and at most 100 years.
    pub fn duration(&self, index: usize, name: &str, min: Micros) -> Result<Option<Micros>, Error> {
        self.datum(index)
            // SAFETY: declared interval.
            .map(|datum| unsafe { interval_to_micros(datum, name, min) })
            .transpose()
    }

    /// The function that is being called.
    pub fn function(&self) -> pg_sys::Oid {
        // SAFETY: the function manager fills in flinfo for every call through SQL.
        unsafe { (*(*self.0).flinfo).fn_oid }
    }
}

/// # Safety
/// `datum` must be an interval.
pub unsafe fn interval_to_micros(datum: Datum, name: &str, min: Micros) -> Result<Micros, Error> {
    // SAFETY: as the caller says.
    let interval = unsafe { *datum.cast_mut_ptr::<pg_sys::Interval>() };
    duration(name, interval.month, interval.day, interval.time, min)
}
