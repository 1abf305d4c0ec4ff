//! SQL through SPI, for what is not hot: settings, grants, explanations.
//!
//! The functions that use it pin their search_path to `pg_catalog, pg_temp`, where operators are never
//! searched in pg_temp: statements write them plainly, and name tables and functions in full. Sagas
//! are the exception (`tables/sagas.rs`): they run with the search_path of their handlers.

use crate::pg::datum::encoding::to_server;
use crate::pg::datum::text::Text;
use crate::pg::error::Kept;
use crate::pg::{limit, raw, subtransaction};
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::error::{Code, Error, Result};
use std::convert::identity;

/// A parameter: its type and its value.
pub type Parameter = (pg_sys::Oid, Option<Datum>);

/// Runs a statement; returns the number of rows it processed.
pub fn execute(sql: &str, parameters: &[Parameter]) -> Result<u64> {
    with_spi(|| {
        run(sql, parameters, identity)?;
        // SAFETY: `run` has set SPI_processed, and SPI is still connected.
        Ok(unsafe { pg_sys::SPI_processed })
    })
}

/// Runs a statement that writes records. What a constraint of an administrator's refuses is not
/// shown: DETAIL would be the row, with the stored answer, in front of a caller and in the log.
pub fn execute_on_records(sql: &str, parameters: &[Parameter]) -> Result<()> {
    with_spi(|| run(sql, parameters, Kept::without_detail))
}

/// Runs a query; returns its first column, which must be text, in UTF-8. Nulls are passed over.
pub fn texts(sql: &str, parameters: &[Parameter]) -> Result<Vec<String>> {
    with_spi(|| {
        run(sql, parameters, identity)?;
        // SAFETY: `run` succeeded for a query, so SPI_tuptable has SPI_processed rows, which live until
        // SPI_finish; the first column is text, as this function documents, and each value is copied.
        unsafe {
            let table = pg_sys::SPI_tuptable;
            let rows = usize::try_from(pg_sys::SPI_processed).unwrap_or(0);
            Ok((0..rows)
                .filter_map(|row| {
                    let mut is_null = false;
                    let tuple = *(*table).vals.add(row);
                    let datum = pg_sys::SPI_getbinval(tuple, (*table).tupdesc, 1, &mut is_null);
                    (!is_null)
                        .then(|| String::from_utf8_lossy(Text::from_datum(datum).utf8).into_owned())
                })
                .collect())
        }
    })
}

/// Runs a statement; returns the first `N` columns of its first row, copied into the memory context
/// of the caller.
pub fn row<const N: usize>(
    sql: &str,
    parameters: &[Parameter],
) -> Result<Option<[Option<Datum>; N]>> {
    with_spi(|| {
        run(sql, parameters, Kept::without_detail)?;
        // SAFETY: a statement that returns rows has filled SPI_tuptable, which lives until SPI_finish. For a
        // column that it does not have SPI_getbinval answers null. SPI_datumTransfer copies each value, by
        // the length of its type, into the context that SPI was entered from.
        unsafe {
            if pg_sys::SPI_processed == 0 {
                return Ok(None);
            }
            let (tuple, descriptor) =
                (*(*pg_sys::SPI_tuptable).vals, (*pg_sys::SPI_tuptable).tupdesc);
            Ok(Some(std::array::from_fn(|column| {
                let (number, mut is_null) = (column as i32 + 1, false);
                let datum = pg_sys::SPI_getbinval(tuple, descriptor, number, &mut is_null);
                let (mut length, mut by_value) = (0, false);
                let of_type = pg_sys::SPI_gettypeid(descriptor, number);
                pg_sys::get_typlenbyval(of_type, &mut length, &mut by_value);
                (!is_null).then(|| pg_sys::SPI_datumTransfer(datum, by_value, i32::from(length)))
            })))
        }
    })
}

/// Runs what uses SPI.
pub fn with_spi<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: every SPI_connect has its SPI_finish below; an error that unwinds past it leaves the
    // connection to the end of the (sub)transaction (AtEOSubXact_SPI).
    unsafe { pg_sys::SPI_connect() };
    let result = body();
    // SAFETY: SPI is connected since the call above, and `body` leaves it as it found it.
    unsafe { pg_sys::SPI_finish() };
    result
}

/// Never read-only to SPI, which would mean the snapshot of the caller's statement: settings are
/// read and changed as of now.
fn run(sql: &str, parameters: &[Parameter], shown: impl FnOnce(Kept) -> Kept) -> Result<()> {
    let statement = to_server(sql);
    let mut types: Vec<pg_sys::Oid> = parameters.iter().map(|(oid, _)| *oid).collect();
    let mut values: Vec<Datum> =
        parameters.iter().map(|(_, value)| value.unwrap_or(Datum::from(0))).collect();
    let nulls: Vec<std::ffi::c_char> = parameters
        .iter()
        .map(|(_, value)| if value.is_none() { b'n' } else { b' ' } as std::ffi::c_char)
        .collect();
    let count = i32::try_from(parameters.len()).unwrap_or(0);
    let (types, values, nulls) = (types.as_mut_ptr(), values.as_mut_ptr(), nulls.as_ptr());
    // SAFETY: the three arrays have `count` elements and outlive the call. The closure is Copy and an error
    // jumps over nothing else of ours; it is resumed.
    let code = unsafe {
        subtransaction::call_keeping_error(|| {
            raw::SPI_execute_with_args(statement, count, types, values, nulls, false, 0)
        })
    };
    let code = code.unwrap_or_else(|error| shown(limit::told(error).or_lost_race()).resume());
    if code < 0 {
        return Err(Error::new(Code::ObjectNotReady, "could not run an internal statement")
            .detail(format!("SPI answered {code}.")));
    }
    Ok(())
}
