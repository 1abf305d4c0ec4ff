//! `idempotent_seal`, `idempotent_resolve`, `idempotent_forget`.

use crate::keys::call::Call;
use crate::keys::settle::{self, Settlement};
use crate::pg::arguments::{Args, Returned};
use crate::pg::snapshot;
use pgrx::pg_sys::Datum;
use rules::error::{Code, Error};

pub fn idempotent_seal(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_seal()");
    let mut call = Call::new(args.text(0), args.text(1), args.text(2))?;
    let records = call.open_to_write()?;
    settle::seal(&call, &records)?.into_datum(&call, false, args.function())
}

pub fn idempotent_resolve(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_resolve()");
    let mut call = Call::new(args.text(0), args.text(1), args.text(4))?;
    let settlement = match args.text(2).map(|text| text.utf8) {
        Some(b"completed") => Settlement::Completed,
        Some(b"failed") => Settlement::Failed,
        Some(b"absent") => Settlement::Absent,
        _ => {
            return Err(Error::new(
                Code::InvalidParameter,
                "verdict is not one that settles a key",
            )
            .hint("Pass verdict => 'completed', 'failed' or 'absent'."));
        }
    };
    let records = call.open_to_write()?;
    settle::resolve(&call, &records, settlement, args.datum(3))?.into_datum(args.function())
}

pub fn idempotent_forget(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_forget()");
    let mut call = Call::new(args.text(0), args.text(1), args.text(2))?;
    let records = call.open_to_write()?;
    let forgotten = settle::forget(&call, &records)?;
    Ok(Some(Datum::from(forgotten)))
}
