//! One message of a consumer, as an administrator forgets it: see `messages` for how they are marked.

use crate::pg::clock;
use crate::pg::datum::row::Columns;
use crate::pg::datum::text::Text;
use crate::pg::lock::Names;
use crate::pg::table::lookup::{self, Key, RowState};
use crate::pg::table::relation::Relation;
use crate::tables::hold::{AtOnce, Looked, hold};
use crate::tables::messages::column;
use crate::tables::open;
use pgrx::pg_sys;
use rules::Timestamp;
use rules::error::Result;

/// Deletes the row of a message; whether the consumer had seen it. `None`: a transaction is at it, and what
/// becomes of it is not waited for.
pub fn forget(consumer: &Text<'_>, scope: &Text<'_>, message: &Text<'_>) -> Result<Option<bool>> {
    let table = open::to_write(column::TYPES, |catalog| catalog.messages)?;
    let tag = Names::new(&[b"message", consumer.server, scope.server]).tag(message.server);
    let key = Key::texts(&[
        (column::MESSAGE_ID, message.datum),
        (column::CONSUMER, consumer.datum),
        (column::SCOPE, scope.datum),
    ]);
    let held = hold(tag, &AtOnce, || {
        let seen = lookup::dirty(&table, key);
        Ok(match seen.state {
            RowState::Nothing => Looked::Nothing,
            RowState::Settled => Looked::Settled(seen.tuple),
            RowState::Arriving | RowState::Leaving => Looked::BeingWritten(seen.writer),
        })
    })?;
    let Some(held) = held else { return Ok(None) };
    let Some(tuple) = held.row else { return Ok(Some(false)) };
    // SAFETY: the look has copied the tuple and its position from this table while its lock is held, so the row is
    // there, if only as another transaction's delete.
    let (outcome, was_known) = unsafe {
        let outcome = table.delete((*tuple).t_self, false);
        (outcome, is_known(&table, tuple))
    };
    Ok((outcome == pg_sys::TM_Result::TM_Ok).then_some(was_known))
}

/// Whether the retention of the message was not over.
///
/// # Safety
/// The tuple must be a copy of one of the table.
unsafe fn is_known(table: &Relation, tuple: pg_sys::HeapTuple) -> bool {
    // SAFETY: the tuple is a copy of one of the table, which this function demands; `open` has compared its columns
    // with those known.
    let row = unsafe { Columns::of(tuple, table.descriptor()) };
    let until = row.get(column::EXPIRES_AT).map_or(Timestamp::MAX, |at| at.value() as i64);
    until > clock::now()
}
