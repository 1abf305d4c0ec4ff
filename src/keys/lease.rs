//! What a holder changes while its lease lasts.

use crate::keys::call::Call;
use crate::keys::finish::{Take, Taken};
use crate::session::claims;
use crate::tables::records::row::{Found, Row};
use crate::tables::records::table::Records;
use rules::error::{Code, Error, Result};
use std::cell::Cell;

/// Writes the leased record anew, with the change, in its place.
///
/// # Errors
/// As those of `take`; ID007 if the transaction holds the key, or the key is finished.
pub fn change<T>(
    call: &Call<'_>,
    records: &Records,
    fence: Option<i64>,
    take: Take,
    change: impl Fn(&mut Row) -> T,
) -> Result<T> {
    if claims::get(call.owner.id).is_some_and(|claim| claim.status == claims::Status::Open) {
        return Err(Error::new(Code::NoClaim, "the key is not claimed with a lease")
            .detail("The transaction holds it, until it ends.")
            .hint("Only a lease is extended and has a checkpoint. For a claim that outlives the transaction, claim with lease => '30 seconds'."));
    }
    let changed = Cell::new(None);
    let successor = |found: &Found| {
        let mut row = found.row.clone();
        changed.set(Some(change(&mut row)));
        Some(row)
    };
    let taken = take(call, records, fence, &successor)?;
    match (taken, changed.into_inner()) {
        (Taken::Leased(..), Some(changed)) => Ok(changed),
        _ => Err(Error::new(Code::NoClaim, "the key is finished already")
            .detail(format!("An answer is stored for {}.", call.owner.identity.describe()))
            .hint(format!("Read it: {}.", call.owner.identity.call("idempotent_replay", "")))),
    }
}
