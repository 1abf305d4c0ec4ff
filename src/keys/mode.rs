//! The one place that asks whether an operation is binding or only observed.

use crate::keys::call::Call;
use crate::keys::claim::{self, Terms};
use crate::keys::decision::{Decision, Opened};
use crate::keys::finish::{self, take_by_fence};
use crate::keys::held_by::NoRoom;
use crate::keys::request::Request;
use crate::keys::stored::{Recorded, Stored};
use crate::keys::{lease, observe};
use crate::tables::records::row::Row;
use crate::tables::records::table::Records;
use rules::Micros;
use rules::error::{Code, Result};
use rules::policy::{Mode, Policy};

/// A binding claim is finished before its transaction commits, and always held.
const BINDING: Terms = Terms { no_room: NoRoom::Placeholder, guarded: true };

/// Whether outcomes are binding.
pub fn is_binding(policy: &Policy) -> bool {
    policy.mode == Mode::Enforce
}

/// The mode of an operation that is not binding, as `idempotent_explain` tells it.
pub fn shown(policy: &Policy) -> Option<&'static str> {
    (!is_binding(policy)).then(|| policy.mode.as_str())
}

/// Opens the table of records for a claim.
///
/// # Errors
/// ID001 if something is in the way and the caller is `strict`.
pub fn open(call: &mut Call<'_>, lease: Option<Micros>, strict: bool) -> Result<Opened> {
    if !is_binding(&call.policy) {
        return observe::open(call, lease);
    }
    match call.open_to_write() {
        Ok(records) => Ok(Opened::Records(records)),
        Err(error) if error.code == Code::InProgress && !strict => {
            Ok(Opened::InTheWay(Decision::in_progress()))
        }
        Err(error) => Err(error),
    }
}

/// Claims the key, or says why not; of an operation that is only observed, never why not.
pub fn claim(call: &Call<'_>, records: &Records, request: &Request) -> Result<Decision> {
    if is_binding(&call.policy) {
        claim::claim(call, records, request, BINDING)
    } else {
        observe::claim(call, records, request)
    }
}

/// Stores the answer of a key that the caller has claimed.
pub fn store(call: &mut Call<'_>, fence: Option<i64>, stored: &Stored) -> Result<Recorded> {
    if !is_binding(&call.policy) {
        return observe::store(call, fence, stored);
    }
    let records = call.open_to_write()?;
    finish::store(call, &records, fence, stored, take_by_fence)
}

/// Gives a claimed key back.
pub fn release(call: &mut Call<'_>, fence: Option<i64>) -> Result<bool> {
    if !is_binding(&call.policy) {
        return observe::release(call, fence);
    }
    let records = call.open_to_write()?;
    finish::release(call, &records, fence, take_by_fence)
}

/// Writes the record of a lease anew, with the change; `as_if` is the result for a call that is only
/// observed and holds no lease.
pub fn change<T>(
    call: &mut Call<'_>,
    fence: Option<i64>,
    change: impl Fn(&mut Row) -> T,
    as_if: impl FnOnce() -> T,
) -> Result<T> {
    if !is_binding(&call.policy) {
        return observe::change(call, fence, change, as_if);
    }
    let records = call.open_to_write()?;
    lease::change(call, &records, fence, take_by_fence, change)
}
