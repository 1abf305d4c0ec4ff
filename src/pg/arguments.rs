//! The arguments of a call, and what it returns of rows.

use crate::pg::datum::array;
use crate::pg::datum::row::{self, Columns};
use crate::pg::datum::text::Text;
use crate::pg::declaration::{Argument, Bool, Int8s, Interval, Kind, Texts};
use crate::pg::receiver::Receiver;
use crate::pg::{raw, subtransaction};
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::Micros;
use rules::duration::duration;
use rules::error::Error;
use std::ptr::NonNull;

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

    /// The argument; `None` for null.
    pub fn get<K: Kind>(&self, argument: Argument<K>) -> Option<K::Value<'_>> {
        // SAFETY: the SQL declaration gives the function an argument of this type at this place, which a
        // test compares with the catalog; arguments outlive the call.
        self.datum(argument.at).map(|datum| unsafe { K::read(datum) })
    }

    /// The argument at a place; `None` for null.
    pub fn datum(&self, index: usize) -> Option<Datum> {
        // SAFETY: `of` demands the fcinfo of a call in progress, whose `args` has `nargs` elements.
        unsafe {
            let argument = (*self.0).args.as_slice((*self.0).nargs as usize).get(index)?;
            (!argument.isnull).then_some(argument.value)
        }
    }

    /// Puts another value in the place of an argument that is not null; what was there.
    pub fn swap(&self, other: Option<(usize, Datum)>) -> Option<(usize, Datum)> {
        let (index, value) = other?;
        // SAFETY: `of` demands the fcinfo of a call in progress, whose `args` has `nargs` elements.
        unsafe {
            let count = (*self.0).nargs as usize;
            let argument = (*self.0).args.as_mut_slice(count).get_mut(index)?;
            Some((index, std::mem::replace(&mut argument.value, value)))
        }
    }

    /// Whether a boolean argument is true; null is not.
    pub fn is_set(&self, argument: Argument<Bool>) -> bool {
        self.get(argument).unwrap_or(false)
    }

    /// The elements of a text array, in order; `None` for those that are null.
    ///
    /// # Errors
    /// 53200 if there is not enough memory for them.
    pub fn texts(&self, argument: Argument<Texts>) -> Result<Option<Vec<Option<Text<'_>>>>, Error> {
        // SAFETY: the kind `Texts` stands for text[]; arguments and the call's memory context live until the
        // call is over, and `self` with them.
        self.get(argument).map(|datum| unsafe { array::texts(datum) }).transpose()
    }

    /// The elements of a bigint array, in order; `None` for those that are null.
    ///
    /// # Errors
    /// 53200 if there is not enough memory for them.
    pub fn int8s(&self, argument: Argument<Int8s>) -> Result<Option<Vec<Option<i64>>>, Error> {
        // SAFETY: the kind `Int8s` stands for bigint[].
        self.get(argument).map(|datum| unsafe { array::int8s(datum) }).transpose()
    }

    /// A duration in microseconds, at least `min` and at most 100 years.
    ///
    /// # Errors
    /// 22023 outside of that, which names the argument.
    pub fn duration(
        &self,
        argument: Argument<Interval>,
        min: Micros,
    ) -> Result<Option<Micros>, Error> {
        let micros = |datum: Datum| {
            // SAFETY: the kind `Interval` stands for interval, whose datum points to one.
            let interval = unsafe { *datum.cast_mut_ptr::<pg_sys::Interval>() };
            duration(argument.name, interval.month, interval.day, interval.time, min)
        };
        self.get(argument).map(micros).transpose()
    }

    /// Returns rows, for a function that is declared to return a set.
    ///
    /// # Errors
    /// 55000 if it is declared with other columns than this library knows.
    pub fn return_rows<const N: usize>(
        &self,
        values: impl Iterator<Item = [Datum; N]>,
    ) -> Returned {
        // SAFETY: `of` demands the fcinfo of a call in progress. InitMaterializedSRF raises an error if
        // the caller takes no rows (funcapi.c), so `resultinfo` is a ReturnSetInfo with a store and a
        // descriptor. `fits` has compared that with the number of values, as many as `row` and `nulls` have;
        // tuplestore_putvalues copies them.
        unsafe {
            pg_sys::InitMaterializedSRF(self.0, pg_sys::MAT_SRF_USE_EXPECTED_DESC);
            let rows = (*self.0).resultinfo.cast::<pg_sys::ReturnSetInfo>();
            if !row::fits((*rows).setDesc, N) {
                return Err(row::do_not_fit());
            }
            for value in values {
                // The pointers are to const since 17, to mut before.
                let (mut row, mut nulls) = (value, [false; N]);
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
        // SAFETY: `of` demands the fcinfo of a call in progress. `fits` has compared the descriptor with
        // the number of values, and each is of the type of its OUT parameter, in order; forming the tuple
        // copies them. `compose` is Copy, and an error is resumed.
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

    /// Where the caller wants the columns of the row, if it is a plan node of ours.
    pub fn receiver(&self) -> Option<NonNull<Receiver>> {
        // SAFETY: `of` demands the fcinfo of a call in progress.
        unsafe { Receiver::of(self.0) }
    }

    /// The call itself, for one that is passed on.
    pub fn raw(&self) -> pg_sys::FunctionCallInfo {
        self.0
    }

    /// The function that is being called.
    pub fn function(&self) -> pg_sys::Oid {
        // SAFETY: `of` demands the fcinfo of a call in progress, and the function manager sets flinfo in it
        // (fmgr.c); only DirectFunctionCall leaves it null, and no function of ours is called by that.
        unsafe { (*(*self.0).flinfo).fn_oid }
    }
}
