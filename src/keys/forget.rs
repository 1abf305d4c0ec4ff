//! An administrator's deletion of what is known of a key: of what there is to be seen, and of nothing
//! that comes while one asks.

use crate::keys::call::Call;
use crate::keys::waiting::locked_at_once;
use crate::pg::clock;
use crate::session::claims::{self, Status};
use crate::tables::records::row::Found;
use crate::tables::records::table::Records;
use rules::error::{Code, Error, Result};
use rules::record::State;

/// Deletes what is known of a key; whether there was anything. A lease that lasts is only broken by
/// its fence.
///
/// # Errors
/// 55006 for a key that a transaction holds or whose lease lasts; ID003 if a fence is given, and the
/// key is not leased with it.
pub fn forget(call: &Call<'_>, records: &Records, fence: Option<i64>) -> Result<bool> {
    if claims::get(call.owner.id).is_some_and(|claim| claim.status == Status::Open) {
        return Err(held_by_a_transaction(call));
    }
    // Not waited for: whoever waits deletes the answer that comes, and the retry of it runs again.
    let Some((_lock, found)) = locked_at_once(records, &call.owner)? else {
        return Err(held_by_a_transaction(call));
    };
    // A sweep that evicts takes no lock, and a row that it replaces during the look can be missed.
    let found = match found {
        Some(found) => Some(found),
        None => records.find(&call.owner)?,
    };
    let Some(found) = found else {
        call.check_scope()?;
        return Ok(false);
    };
    check_lease(call, &found, fence)?;
    match records.delete_within(&found, 0) {
        Some(deleted) => Ok(deleted),
        None => Err(held_by_a_transaction(call)),
    }
}

fn check_lease(call: &Call<'_>, found: &Found, fence: Option<i64>) -> Result<()> {
    let record = &found.record;
    let leased = record.state == State::InProgress && record.fence.is_some();
    match fence {
        Some(_) if leased && record.fence == fence => Ok(()),
        Some(fence) => Err(Error::new(Code::Fence, "the key is not leased with this fence")
            .detail(format!(
                "Fence {fence} was given to break the lease of {}, and it has no such lease now.",
                call.owner.identity.describe()
            ))
            .hint(see(call))),
        None if leased && !record.lapsed(clock::now()) => {
            Err(Error::new(Code::ObjectInUse, "the lease of the key lasts")
                .detail(format!("An attempt works on {}.", call.owner.identity.describe()))
                .hint(format!(
                    "To break the lease, name its fence, which idempotent.in_flight shows: {}.",
                    call.owner.identity.call("idempotent_forget", "fence => ...")
                )))
        }
        None => Ok(()),
    }
}

fn held_by_a_transaction(call: &Call<'_>) -> Error {
    Error::new(Code::ObjectInUse, "the key is held by a transaction")
        .detail(format!("A transaction works on {}.", call.owner.identity.describe()))
        .hint(format!("Wait until it has ended. Then see what is known: {}.", see_call(call)))
}

fn see(call: &Call<'_>) -> String {
    format!("See what is known: {}.", see_call(call))
}

fn see_call(call: &Call<'_>) -> String {
    call.owner.identity.call("idempotent_explain", "")
}
