//! Tables of records: looked up by id, inserted, deleted. One row a key, written by the backend that holds
//! its lock.

use crate::pg::datum::varlena;
use crate::pg::error::Kept;
use crate::pg::table::lookup::{self, Key, RowState};
use crate::pg::table::relation::Relation;
use crate::pg::{clock, lock, snapshot};
use crate::tables::hold::Looked;
use crate::tables::open;
use crate::tables::records::canary;
use crate::tables::records::row::{Found, Owner, Row, column};
use pgrx::pg_sys;
use rules::error::{Code, Error, Result};
use rules::policy::Durability;
use rules::record::State;
use rules::{Micros, Timestamp};

/// A table of records, open.
pub struct Records {
    table: Relation,
    lost_before: Timestamp,
}

impl Records {
    pub fn open_to_read(durability: Durability) -> Result<Self> {
        let table = open::to_read(column::TYPES, |catalog| catalog.records(durability))?;
        let lost_before = canary::lost_before(&table, durability)?;
        Ok(Self { table, lost_before })
    }

    /// # Errors
    /// 55000 if an administrator has added an index that an insert of ours cannot maintain.
    pub fn open_to_write(durability: Durability) -> Result<Self> {
        let table = open::to_write(column::TYPES, |catalog| catalog.records(durability))?;
        open::check_indexes(&table)?;
        let lost_before = canary::keep(&table, durability)?;
        Ok(Self { table, lost_before })
    }

    /// Closes a table that turned out to be the wrong one, and gives its lock back.
    pub fn give_back(self) {
        self.table.give_back();
    }

    /// Since when the table has lost no record; `Timestamp::MIN` if it never did.
    pub fn lost_before(&self) -> Timestamp {
        self.lost_before
    }

    /// The record as of now, whatever snapshot the caller's statement runs with: a caller that
    /// lost a race must see the winner.
    ///
    /// A record that is replaced during the look can be missed in both places; `find_locked` is
    /// there for callers that must know. (An MVCC snapshot could not miss it, but takes longer, and
    /// under SERIALIZABLE leaves predicate locks on which transactions with other keys fail.)
    ///
    /// # Errors
    /// 40001 under REPEATABLE READ and above for an answer that is newer than the transaction's
    /// snapshot: the transaction could read it, but not the rows that belong to it.
    pub fn find(&self, owner: &Owner<'_>) -> Result<Option<Found>> {
        self.found(owner, lookup::current(&self.table, Key::record(&owner.id)))
    }

    /// The record as of now, also while it is being written. A transaction that holds the key's lock
    /// knows that no other begins to insert it now; without the lock this is only a glance. A record
    /// that is being deleted and has expired is as good as gone, and settled.
    ///
    /// # Errors
    /// As [`Records::find`].
    pub fn find_locked(&self, owner: &Owner<'_>) -> Result<Looked<Box<Found>>> {
        let seen = lookup::dirty(&self.table, Key::record(&owner.id));
        if seen.state == RowState::Arriving {
            return Ok(Looked::BeingWritten(seen.writer));
        }
        let Some(found) = self.found(owner, seen.tuple)? else {
            return Ok(Looked::Nothing);
        };
        if seen.state == RowState::Leaving && !found.record.expired(clock::now()) {
            return Ok(Looked::BeingWritten(seen.writer));
        }
        Ok(Looked::Settled(Box::new(found)))
    }

    fn found(&self, owner: &Owner<'_>, tuple: pg_sys::HeapTuple) -> Result<Option<Found>> {
        if tuple.is_null() {
            return Ok(None);
        }
        // SAFETY: the tuple is not null, and a look-up in this table has palloc'd the copy in the call's memory
        // context, which outlives what is found.
        let found = unsafe { Found::of(tuple, &self.table) };
        check(owner, &found)?;
        Ok(Some(found))
    }

    /// Inserts a record, into every index, under the unique constraint, which has the last word:
    /// a row that got there past the lock (logical replication, an administrator) is a lost race.
    pub fn insert(&self, owner: &Owner<'_>, row: &Row) -> Result<()> {
        // SAFETY: a table that was opened to be written had its indexes checked; a `Row` has values by
        // `column`, each of the type declared there.
        unsafe { self.table.insert(&row.0) }.map_err(|error| lost_race(owner, error))
    }

    /// Puts another version in the place of a record that was found; `false` if another session was faster.
    /// Waits for a transaction that is still deciding if it may `wait`, and else is answered `false`.
    pub fn replace(&self, owner: &Owner<'_>, found: &Found, row: &Row, wait: bool) -> Result<bool> {
        // SAFETY: as for `insert`: indexes are checked, values of their types. A fresh snapshot saw the tuple while
        // the key's lock was held, so it is still there, if only as another session's delete.
        let outcome = unsafe { self.table.replace(found.tid, &row.0, wait) };
        let outcome = outcome.map_err(|error| lost_race(owner, error))?;
        Ok(outcome == pg_sys::TM_Result::TM_Ok)
    }

    /// Deletes a record that was found; `false` if another session's delete came first. Waits for a
    /// transaction that is still deciding, as any DELETE does.
    pub fn delete(&self, found: &Found) -> bool {
        // SAFETY: a fresh snapshot saw the tuple while the key's lock was held, so it is still there, if only as
        // another session's delete.
        let outcome = unsafe { self.table.delete(found.tid, true) };
        outcome == pg_sys::TM_Result::TM_Ok
    }

    /// Like [`Records::delete`], but waits for at most `wait`; `None` if that was not enough.
    pub fn delete_within(&self, found: &Found, wait: Micros) -> Option<bool> {
        // SAFETY: a fresh snapshot saw the tuple in this statement, so it is still there, if only as another
        // session's delete.
        let mut outcome = unsafe { self.table.delete(found.tid, false) };
        if outcome == pg_sys::TM_Result::TM_BeingModified {
            if wait == 0 {
                return None;
            }
            let (table, tid) = (&self.table, found.tid);
            // SAFETY: the tuple is still there, if only as another session's delete; `held_within` catches the
            // error, and the closure is Copy.
            outcome = lock::held_within(wait, || unsafe { table.delete_raw(tid, true) })?;
        }
        Some(outcome == pg_sys::TM_Result::TM_Ok)
    }
}

/// Refuses what was found under the id if it is another key's, or newer than the transaction may see.
///
/// # Errors
/// 23505 for the record of another key; else as [`Records::find`].
fn check(owner: &Owner<'_>, found: &Found) -> Result<()> {
    let same = [
        (column::OPERATION, owner.operation),
        (column::SCOPE, owner.scope),
        (column::KEY, owner.key),
    ]
    .into_iter()
    .all(|(column, text)| {
        found
            .row
            .get(column)
            // SAFETY: the three columns are declared text, and the copy of the tuple outlives `found`.
            .is_some_and(|datum| unsafe { varlena::slice(datum) } == text.server)
    });
    if !same {
        return Err(Error::new(Code::Collision, "two keys have the same record id")
            .detail(format!(
                "The record found belongs to another key than {}.",
                owner.identity.describe()
            ))
            .hint("Send the request with another key."));
    }
    let is_answer = matches!(found.record.state, State::Completed | State::Failed);
    if is_answer
        && !found.record.mine
        && snapshot::is_frozen()
        && found.inserted_by.is_some_and(snapshot::is_older_than)
    {
        return Err(Error::new(
            Code::SerializationFailure,
            "could not serialize access due to concurrent use of the key",
        )
        .detail(format!(
            "The record of {} was written after this transaction's snapshot.",
            owner.identity.describe()
        ))
        .hint("Retry the transaction."));
    }
    Ok(())
}

/// What a write raises whose unique constraint has refused it; any other error goes on.
fn lost_race(owner: &Owner<'_>, error: Kept) -> Error {
    if error.sqlstate() != UNIQUE_VIOLATION {
        error.resume();
    }
    Error::new(Code::LostInsert, "could not serialize access due to concurrent use of the key")
        .detail(format!("A record of {} was written meanwhile.", owner.identity.describe()))
        .hint("Retry the transaction.")
}

const UNIQUE_VIOLATION: &str = "23505";
