//! `idempotent_sweep`: what the worker does, by hand.

use crate::pg::arguments::{Args, Returned};
use crate::pg::declaration::arguments;
use crate::pg::snapshot;
use crate::tables::audit::{self, Deed};
use crate::tables::sweep::{Portion, sweep};
use crate::tables::sweepable::Sweepable;
use pgrx::pg_sys::Datum;
use rules::Micros;
use rules::error::{Code, Error, Result};

arguments! {
    SWEEP: Sweep = "idempotent_sweep" {
        max_rows: Int4,
    }
}

pub fn idempotent_sweep(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_sweep()");
    let limit = match args.get(SWEEP.max_rows) {
        None => u64::MAX,
        Some(rows) => u64::try_from(rows).ok().filter(|rows| *rows > 0).ok_or_else(|| {
            Error::new(Code::InvalidParameter, "max_rows must be at least 1")
                .hint("Leave it out to sweep everything that is due.")
        })?,
    };
    let swept = sweep_all(limit)?;
    if swept > 0 {
        let detail = Some(audit::detail(&format!("{swept} rows")));
        audit::note_of_client(&Deed { action: "sweep", detail, ..Deed::default() })?;
    }
    Ok(Some(Datum::from(i64::try_from(swept).unwrap_or(i64::MAX))))
}

fn sweep_all(limit: u64) -> Result<u64> {
    let mut done = 0;
    for what in Sweepable::ALL {
        let rows = limit - done;
        if rows == 0 {
            break;
        }
        let portion = Portion { what, from: None, rows, time: Micros::MAX };
        if let Some(mut swept) = sweep(&portion)? {
            swept.report();
            done += swept.rows();
        }
    }
    Ok(done)
}
