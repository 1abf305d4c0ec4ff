//! `idempotent_extend` and `idempotent_checkpoint`: what a holder does while the lease lasts.

use crate::keys::call::Call;
use crate::keys::claim::lease_expiry;
use crate::keys::finish::{Held, take_by_fence};
use crate::keys::observe::{self, Keyless};
use crate::pg::arguments::{Args, Returned};
use crate::pg::datum::varlena;
use crate::pg::{clock, snapshot};
use crate::session::claims;
use crate::tables::records::row::{Row, column};
use pgrx::pg_sys::Datum;
use rules::error::{Code, Error, Result};
use std::rc::Rc;

pub fn idempotent_extend(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_extend()");
    let call = match Call::new(args.text(0), args.text(1), args.text(3)) {
        Ok(call) => Some(call),
        Err(error) => Keyless::instead_of(error, args.text(0)).map(|_| None)?,
    };
    let lease = args.duration(2, "lease", 1)?.ok_or_else(|| {
        Error::new(Code::InvalidParameter, "lease must not be null")
            .hint("Say how long the lease lasts from now, e.g. lease => '30 seconds'.")
    })?;
    let as_if = || Ok(Some(Datum::from(clock::now().saturating_add(lease))));
    let Some(mut call) = call else { return as_if() };
    let policy = Rc::clone(&call.policy);
    let extended = change(&mut call, args.int8(4), |row| {
        let lease_until = clock::now().saturating_add(lease);
        let expires_at = lease_expiry(&policy, lease_until);
        row.set_time(column::LEASE_UNTIL, lease_until);
        row.set_time(column::EXPIRES_AT, expires_at);
        row.set_time(column::SWEEP_AT, expires_at);
        lease_until
    });
    match extended {
        Err(error) if observe::forgives(&call.policy, &error) => as_if(),
        extended => Ok(Some(Datum::from(extended?))),
    }
}

pub fn idempotent_checkpoint(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_checkpoint()");
    let mut call = match Call::new(args.text(0), args.text(1), args.text(3)) {
        Ok(call) => call,
        Err(error) => {
            return Keyless::instead_of(error, args.text(0)).map(|_| Some(Datum::from(0)));
        }
    };
    let checkpoint = args.datum(2);
    check_size(&call, checkpoint)?;
    let done = change(&mut call, args.int8(4), |row| row.set(column::CHECKPOINT, checkpoint));
    done.or_else(|error| match observe::forgives(&call.policy, &error) {
        true => Ok(()),
        false => Err(error),
    })?;
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

/// Writes the leased record anew, with the change.
fn change<T>(
    call: &mut Call<'_>,
    fence: Option<i64>,
    change: impl FnOnce(&mut Row) -> T,
) -> Result<T> {
    let records = call.open_to_write()?;
    if claims::get(call.owner.id).is_some_and(|claim| claim.status == claims::Status::Open) {
        return Err(Error::new(Code::NoClaim, "the key is not claimed with a lease")
            .detail("The transaction holds it, until it ends.")
            .hint("Only a lease is extended and has a checkpoint. For a claim that outlives the transaction, claim with lease => '30 seconds'."));
    }
    match take_by_fence(call, &records, fence)? {
        Held::Leased(found, _lock) => {
            let mut row = found.row.clone();
            let changed = change(&mut row);
            records.insert(&call.owner, &row)?;
            Ok(changed)
        }
        Held::Finished(_) => Err(Error::new(Code::NoClaim, "the key is finished already")
            .detail(format!("An answer is stored for {}.", call.owner.identity.describe()))
            .hint(format!("Read it: {}.", call.owner.identity.call("idempotent_replay", "")))),
    }
}
