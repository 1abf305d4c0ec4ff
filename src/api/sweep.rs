//! `idempotent_sweep`: what the worker does, by hand.

use crate::domain::Micros;
use crate::domain::error::{Code, Error, Result};
use crate::entry::{Args, Returned};
use crate::store::snapshot;
use crate::store::sweep::{Portion, sweep};
use crate::store::sweepable::Sweepable;
use pgrx::pg_sys::Datum;

pub fn idempotent_sweep(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_sweep()");
    let limit = match args.int4(0) {
        None => u64::MAX,
        Some(rows) => u64::try_from(rows).ok().filter(|rows| *rows > 0).ok_or_else(|| {
            Error::new(Code::InvalidParameter, "max_rows must be at least 1")
                .hint("Leave it out to sweep everything that is due.")
        })?,
    };
    let swept = sweep_all(limit)?;
    Ok(Some(Datum::from(i64::try_from(swept).unwrap_or(i64::MAX))))
}

fn sweep_all(limit: u64) -> Result<u64> {
    let mut done = 0;
    for what in Sweepable::ALL {
        let rows = limit - done;
        if rows == 0 {
            break;
        }
        let portion = Portion { what, from: i64::MIN, rows, time: Micros::MAX };
        if let Some(mut swept) = sweep(&portion)? {
            swept.report();
            done += swept.rows();
        }
    }
    Ok(done)
}
