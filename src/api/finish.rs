//! `idempotent_complete`, `idempotent_fail`, `idempotent_release`.

use crate::keys::call::Call;
use crate::keys::keyless::Keyless;
use crate::keys::mode;
use crate::keys::stored::Stored;
use crate::pg::arguments::{Args, Returned};
use crate::pg::snapshot;
use pgrx::pg_sys::Datum;

pub fn idempotent_complete(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_complete()");
    finish(args, false)
}

pub fn idempotent_fail(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_fail()");
    finish(args, true)
}

fn finish(args: &Args, failed: bool) -> Returned {
    let mut call = match Call::new(args.text(0), args.text(1), args.text(4)) {
        Ok(call) => call,
        Err(error) => return Keyless::instead_of(error, args.text(0)).map(|_| args.datum(2)),
    };
    let stored = Stored {
        failed,
        status: args.int4(3),
        headers: args.datum(6),
        response: args.datum(2),
        body: args.datum(7),
        retention: args.duration(8, "retention", 1)?,
    };
    mode::store(&mut call, args.int8(5), &stored)?;
    Ok(stored.response)
}

pub fn idempotent_release(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_release()");
    let released = match Call::new(args.text(0), args.text(1), args.text(2)) {
        Ok(mut call) => mode::release(&mut call, args.int8(3))?,
        Err(error) => Keyless::instead_of(error, args.text(0)).map(|_| true)?,
    };
    Ok(Some(Datum::from(released)))
}
