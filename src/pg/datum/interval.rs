//! Intervals that are stored, as lengths of time.

use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::Micros;
use rules::duration::interval_micros;

/// The length of an interval; `None` beyond what can be counted.
///
/// # Safety
/// `datum` must be an interval.
pub unsafe fn micros(datum: Datum) -> Option<Micros> {
    // SAFETY: `datum` is an interval, which this function demands, and points to one.
    let interval = unsafe { *datum.cast_mut_ptr::<pg_sys::Interval>() };
    interval_micros(interval.month, interval.day, interval.time)
}
