//! `idempotent_extend` and `idempotent_checkpoint`: what a holder does while the lease lasts.

use crate::keys::call::Call;
use crate::keys::keyless::Keyless;
use crate::keys::mode;
use crate::pg::arguments::{Args, Returned};
use crate::pg::datum::varlena;
use crate::pg::declaration::arguments;
use crate::pg::{clock, snapshot};
use crate::tables::records::row::{Row, column};
use pgrx::pg_sys::Datum;
use rules::error::{Code, Error, Result};
use rules::retention::lease_expires;
use std::rc::Rc;

arguments! {
    EXTEND: Extend = "idempotent_extend" {
        operation: Text, key: Text, lease: Interval, scope: Text, fence: Int8,
    }
    CHECKPOINT: Checkpoint = "idempotent_checkpoint" {
        operation: Text, key: Text, checkpoint: Jsonb, scope: Text, fence: Int8,
    }
}

pub fn idempotent_extend(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_extend()");
    let call =
        match Call::new(args.get(EXTEND.operation), args.get(EXTEND.key), args.get(EXTEND.scope)) {
            Ok(call) => Some(call),
            Err(error) => Keyless::instead_of(error, args.get(EXTEND.operation)).map(|_| None)?,
        };
    let lease = args.duration(EXTEND.lease, 1)?.ok_or_else(|| {
        Error::new(Code::InvalidParameter, "lease must not be null")
            .hint("Say how long the lease lasts from now, e.g. lease => '30 seconds'.")
    })?;
    let until = || clock::now().saturating_add(lease);
    let Some(mut call) = call else { return Ok(Some(Datum::from(until()))) };
    let policy = Rc::clone(&call.policy);
    let extend = |row: &mut Row| {
        let lease_until = until();
        let expires_at = lease_expires(&policy, lease_until);
        row.set_time(column::LEASE_UNTIL, lease_until);
        row.set_time(column::EXPIRES_AT, expires_at);
        row.set_time(column::SWEEP_AT, expires_at);
        lease_until
    };
    let extended = mode::change(&mut call, args.get(EXTEND.fence), extend, until)?;
    Ok(Some(Datum::from(extended)))
}

pub fn idempotent_checkpoint(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_checkpoint()");
    let mut call = match Call::new(
        args.get(CHECKPOINT.operation),
        args.get(CHECKPOINT.key),
        args.get(CHECKPOINT.scope),
    ) {
        Ok(call) => call,
        Err(error) => {
            return Keyless::instead_of(error, args.get(CHECKPOINT.operation))
                .map(|_| Some(Datum::from(0)));
        }
    };
    let checkpoint = args.get(CHECKPOINT.checkpoint);
    check_size(&call, checkpoint)?;
    let leave = |row: &mut Row| row.set(column::CHECKPOINT, checkpoint);
    mode::change(&mut call, args.get(CHECKPOINT.fence), leave, || ())?;
    // void
    Ok(Some(Datum::from(0)))
}

fn check_size(call: &Call<'_>, checkpoint: Option<Datum>) -> Result<()> {
    let limit = call.policy.largest_answer();
    // SAFETY: declared jsonb.
    match checkpoint.map(|datum| unsafe { varlena::raw_size(datum) }) {
        Some(size) if size > limit => Err(Error::new(Code::LimitExceeded, "checkpoint is too large")
            .detail(format!("It takes {size} bytes. {} is {limit}.", call.policy.limit_of_answers()))
            .hint("Store less, such as where to go on, or raise it: SELECT idempotent_operation(..., max_response_bytes => ...).")),
        _ => Ok(()),
    }
}
