//! `idempotent_extend` and `idempotent_checkpoint`: what a holder does while the lease lasts.

use crate::keys::call::Call;
use crate::keys::keyless::Keyless;
use crate::keys::mode;
use crate::pg::arguments::{Args, Returned};
use crate::pg::datum::varlena;
use crate::pg::declaration::arguments;
use crate::pg::{clock, memory, snapshot};
use crate::settings;
use crate::tables::records::row::{Row, column};
use pgrx::pg_sys::Datum;
use rules::dating::Dates;
use rules::error::{Code, Error, Result};
use rules::retention::{extended_lease_due, extended_lease_expires};
use rules::{Micros, Timestamp};
use std::rc::Rc;

arguments! {
    EXTEND: Extend = "idempotent_extend" {
        operation: Text, key: Text, lease: Interval, scope: Text, fence: Int8,
    }
    EXTEND_ALL: ExtendAll = "idempotent_extend_all" {
        operation: Text, keys: Texts, fences: Int8s, lease: Interval, scope: Text,
    }
    CHECKPOINT: Checkpoint = "idempotent_checkpoint" {
        operation: Text, key: Text, checkpoint: Jsonb, scope: Text, fence: Int8,
    }
}

pub fn idempotent_extend(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_extend()");
    let call = match Call::of_holder(
        args.get(EXTEND.operation),
        args.get(EXTEND.key),
        args.get(EXTEND.scope),
    ) {
        Ok(call) => Some(call),
        Err(error) => Keyless::instead_of(error, args.get(EXTEND.operation)).map(|_| None)?,
    };
    let lease = lease(args.duration(EXTEND.lease, 1)?)?;
    let Some(mut call) = call else { return Ok(Some(Datum::from(from_now(lease)))) };
    Ok(Some(Datum::from(extend(&mut call, args.get(EXTEND.fence), lease)?)))
}

fn lease(given: Option<Micros>) -> Result<Micros> {
    given.ok_or_else(|| {
        Error::new(Code::InvalidParameter, "lease must not be null")
            .hint("Say how long the lease lasts from now, e.g. lease => '30 seconds'.")
    })
}

fn from_now(lease: Micros) -> Timestamp {
    clock::now().saturating_add(lease)
}

/// The new end of the lease.
fn extend(call: &mut Call<'_>, fence: Option<i64>, lease: Micros) -> Result<Timestamp> {
    let policy = Rc::clone(&call.policy);
    policy.check_lease(call.owner.identity.operation(), lease)?;
    let (key, skew) = (call.owner.identity.key(), settings::clock_skew());
    let extend = |row: &mut Row| {
        let lease_until = from_now(lease);
        let time = |column: usize| row.get(column).map(|at| at.value() as i64);
        let dates = Dates::of(time(column::FIRST_SENT), key, policy.key_dates);
        let granted = time(column::EXPIRES_AT).unwrap_or(Timestamp::MAX);
        let expires_at = extended_lease_expires(granted, &policy, lease_until, dates, skew);
        let before = time(column::SWEEP_AT).unwrap_or(Timestamp::MIN);
        row.set_time(column::LEASE_UNTIL, lease_until);
        row.set_time(column::EXPIRES_AT, expires_at);
        row.set_time(column::SWEEP_AT, extended_lease_due(before, expires_at, clock::now()));
        lease_until
    };
    mode::change(call, fence, extend, || from_now(lease))
}

/// Returns the keys whose leases are lost, in the order given; the others last for as long from now.
pub fn idempotent_extend_all(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_extend_all()");
    let lease = lease(args.duration(EXTEND_ALL.lease, 1)?)?;
    let keys_and_fences = (args.texts(EXTEND_ALL.keys)?, args.int8s(EXTEND_ALL.fences)?);
    let (Some(keys), Some(fences)) = keys_and_fences else {
        return Err(Error::new(Code::InvalidParameter, "keys and fences must not be null")
            .hint("Pass the keys and, in the same order, the fences that idempotent_claim returned: ARRAY['k1', 'k2'], ARRAY[1, 2]."));
    };
    if keys.len() != fences.len() {
        return Err(Error::new(Code::InvalidParameter, "there must be as many fences as keys")
            .detail(format!("There are {} keys and {} fences.", keys.len(), fences.len()))
            .hint("Pass the fences in the order of the keys."));
    }
    memory::expect(keys.len().saturating_mul(2 * size_of::<Call<'_>>()))?;
    let (operation, scope) = (args.get(EXTEND_ALL.operation), args.get(EXTEND_ALL.scope));
    let mut leases = Vec::with_capacity(keys.len());
    for (at, (key, fence)) in keys.iter().zip(fences).enumerate() {
        match Call::of_holder(operation, *key, scope) {
            Ok(call) => leases.push((at, call, fence)),
            // Where it is only observed, it goes on as a lease that lasts.
            Err(error) => drop(Keyless::instead_of(error, operation)?),
        }
    }
    // In one order, as every caller goes through them: two calls wait for each other in one direction only.
    leases.sort_by_key(|(_, call, _)| call.owner.id);
    let mut lost = vec![false; keys.len()];
    for (at, call, fence) in &mut leases {
        match extend(call, *fence, lease) {
            Err(Error {
                code: Code::Fence | Code::NoClaim | Code::Slot | Code::BadKey, ..
            }) => {
                lost[*at] = true;
            }
            extended => drop(extended?),
        }
    }
    let lost = keys.into_iter().zip(lost).filter(|(_, lost)| *lost);
    args.return_rows(lost.filter_map(|(key, _)| key).map(|key| [key.datum]))
}

pub fn idempotent_checkpoint(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_checkpoint()");
    let mut call = match Call::of_holder(
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
    // SAFETY: `idempotent_checkpoint` passes an argument of the kind `Jsonb`, which is a varlena.
    match checkpoint.map(|datum| unsafe { varlena::raw_size(datum) }) {
        Some(size) if size > limit => Err(Error::new(Code::LimitExceeded, "checkpoint is too large")
            .detail(format!("It takes {size} bytes. {} is {limit}.", call.policy.limit_of_answers()))
            .hint("Store less, such as where to go on, or raise it: SELECT idempotent_operation(..., max_response_bytes => ...).")),
        _ => Ok(()),
    }
}
