//! Tables of records: looked up by id, inserted, deleted. One row a key, written by whoever holds
//! its lock.

use crate::domain::Micros;
use crate::domain::error::{Code, Error, Result};
use crate::domain::policy::Durability;
use crate::domain::verdict::State;
use crate::entry::Text;
use crate::store::record::{Found, Owner, Row, column};
use crate::store::relation::Relation;
use crate::store::{lock, snapshot, subtransaction, uncaught};
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;

/// What is known of a key once its lock is held.
pub enum Locked {
    Nothing,
    Found(Box<Found>),
    /// A transaction that does not hold the lock (see `claim::take`, or a sweeper or administrator)
    /// is inserting or deleting the record: wait for its end.
    BeingWritten(pg_sys::TransactionId),
}

/// A table of records, open.
pub struct Records(Relation);

impl Records {
    pub fn open_to_read(durability: Durability) -> Result<Self> {
        Relation::open_to_read(column::COUNT, |catalog| catalog.records(durability)).map(Self)
    }

    /// # Errors
    /// 55000 if an administrator has added an index that an insert of ours cannot maintain.
    pub fn open_to_write(durability: Durability) -> Result<Self> {
        let records =
            Relation::open_to_write(column::COUNT, |catalog| catalog.records(durability))?;
        records.check_indexes()?;
        Ok(Self(records))
    }

    /// Closes a table that turned out to be the wrong one, and gives its lock back.
    pub fn give_back(self) {
        self.0.give_back();
    }

    /// The record as of now, whatever snapshot the caller's statement runs with: who lost a race
    /// must see the winner.
    ///
    /// A record that is replaced during the look can be missed in both places; `find_locked` is
    /// there for whoever must know. (An MVCC snapshot could not miss it, but takes longer, and
    /// under SERIALIZABLE leaves predicate locks on which transactions with other keys fail.)
    ///
    /// # Errors
    /// 40001 under REPEATABLE READ and above for an answer that is newer than the transaction's
    /// snapshot: the transaction could read it, but not the rows that belong to it.
    pub fn find(&self, owner: &Owner<'_>) -> Result<Option<Found>> {
        let mut current = snapshot::current();
        let look = self.look(owner, &raw mut current);
        // SAFETY: an error goes on to the caller.
        let tuple = unsafe { subtransaction::call_keeping_error(|| look.first()) };
        self.found(owner, tuple.unwrap_or_else(|error| error.resume()))
    }

    /// The record as of now, also while it is being written. Whoever holds the key's lock knows
    /// that nobody begins to insert it now; without the lock this is only a glance.
    ///
    /// # Errors
    /// As [`Records::find`].
    pub fn find_locked(&self, owner: &Owner<'_>) -> Result<Locked> {
        let mut dirty = snapshot::dirty();
        let look = self.look(owner, &raw mut dirty);
        // SAFETY: an error goes on to the caller.
        let seen = unsafe { subtransaction::call_keeping_error(|| look.first_settled()) };
        let (writer, tuple) = seen.unwrap_or_else(|error| error.resume());
        if writer != pg_sys::InvalidTransactionId {
            return Ok(Locked::BeingWritten(writer));
        }
        let found = self.found(owner, tuple)?;
        Ok(found.map_or(Locked::Nothing, |found| Locked::Found(Box::new(found))))
    }

    fn look(&self, owner: &Owner<'_>, snapshot: pg_sys::Snapshot) -> Look {
        let id = Datum::from(owner.id.0.as_ptr());
        Look { relation: self.0.raw, index: self.0.index, id, snapshot }
    }

    fn found(&self, owner: &Owner<'_>, tuple: pg_sys::HeapTuple) -> Result<Option<Found>> {
        if tuple.is_null() {
            return Ok(None);
        }
        // SAFETY: a copy of a tuple of this table, in the caller's memory context.
        let found = unsafe { Found::of(tuple, self.0.descriptor()) };
        self.checked(owner, found).map(Some)
    }

    fn checked(&self, owner: &Owner<'_>, found: Found) -> Result<Found> {
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
                // SAFETY: a text column of a copied tuple.
                .is_some_and(|datum| unsafe { Text::from_datum(datum) }.server == text.server)
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
        Ok(found)
    }

    /// Inserts a record, into every index, under the unique constraint, which has the last word:
    /// a row that got there past the lock (logical replication, an administrator) is a lost race.
    pub fn insert(&self, owner: &Owner<'_>, row: &Row) -> Result<()> {
        let insert = Insert { relation: self.0.raw, descriptor: self.0.descriptor(), row };
        // SAFETY: an error goes on to the caller, as it was or as a lost race.
        let Err(error) = (unsafe { subtransaction::call_keeping_error(|| insert.run()) }) else {
            return Ok(());
        };
        if error.sqlstate() != UNIQUE_VIOLATION {
            error.resume();
        }
        Err(Error::new(
            Code::SerializationFailure,
            "could not serialize access due to concurrent use of the key",
        )
        .detail(format!("A record of {} was written meanwhile.", owner.identity.describe()))
        .hint("Retry the transaction."))
    }

    /// Deletes a record that was found; `false` if somebody else's delete came first. Waits for
    /// whoever is still deciding, as any DELETE does.
    pub fn delete(&self, found: &Found) -> bool {
        self.try_delete(found, true) == pg_sys::TM_Result::TM_Ok
    }

    /// As [`Records::delete`], but waits for at most `wait`; `None` if that was not enough.
    pub fn delete_within(&self, found: &Found, wait: Micros) -> Option<bool> {
        let mut result = self.try_delete(found, false);
        if result == pg_sys::TM_Result::TM_BeingModified {
            if wait == 0 {
                return None;
            }
            let delete = Delete::new(self.0.raw, found.tid, true);
            result = lock::held_within(wait, || delete.run())?;
        }
        Some(result == pg_sys::TM_Result::TM_Ok)
    }

    fn try_delete(&self, found: &Found, wait: bool) -> pg_sys::TM_Result::Type {
        let delete = Delete::new(self.0.raw, found.tid, wait);
        // SAFETY: an error goes on to the caller.
        let result = unsafe { subtransaction::call_keeping_error(|| delete.run()) };
        result.unwrap_or_else(|error| error.resume())
    }
}

const UNIQUE_VIOLATION: &str = "23505";

/// A look-up of one record by its id. Nothing in its methods has a destructor: an error jumps over
/// their frames.
#[derive(Clone, Copy)]
struct Look {
    relation: pg_sys::Relation,
    index: pg_sys::Oid,
    id: Datum,
    snapshot: pg_sys::Snapshot,
}

impl Look {
    /// A palloc'd copy of the first tuple that the snapshot sees, or null.
    fn first(self) -> pg_sys::HeapTuple {
        // SAFETY: the scan is ended, and the tuple copied before that.
        unsafe {
            let scan = self.begin();
            let mut tuple = uncaught::systable_getnext(scan);
            if !tuple.is_null() {
                tuple = uncaught::heap_copytuple(tuple);
            }
            uncaught::systable_endscan(scan);
            tuple
        }
    }

    /// With a dirty snapshot: a transaction that is writing the record, if there is one, and else
    /// a copy of it, or null.
    fn first_settled(self) -> (pg_sys::TransactionId, pg_sys::HeapTuple) {
        let mut writer = pg_sys::InvalidTransactionId;
        let mut settled = std::ptr::null_mut();
        // SAFETY: as above; the scan fills in the snapshot for each tuple that it returns.
        unsafe {
            let scan = self.begin();
            loop {
                let tuple = uncaught::systable_getnext(scan);
                if tuple.is_null() {
                    break;
                }
                let (inserting, deleting) = ((*self.snapshot).xmin, (*self.snapshot).xmax);
                if inserting != pg_sys::InvalidTransactionId {
                    writer = inserting;
                } else if deleting != pg_sys::InvalidTransactionId {
                    // A record being replaced has a second version further on.
                    writer = deleting;
                } else {
                    settled = uncaught::heap_copytuple(tuple);
                    break;
                }
            }
            uncaught::systable_endscan(scan);
        }
        (writer, settled)
    }

    /// # Safety
    /// The scan must be ended.
    unsafe fn begin(self) -> pg_sys::SysScanDesc {
        // SAFETY: the relation is open and locked, the id is a uuid as the index is, the snapshot
        // outlives the scan; the scan key is copied (genam.c).
        unsafe {
            // Kept until the transaction ends, as the executor keeps it, so that the scan's own
            // coming and going is a matter of this backend alone.
            uncaught::LockRelationOid(self.index, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
            let mut key: pg_sys::ScanKeyData = std::mem::zeroed();
            uncaught::ScanKeyInit(
                &mut key,
                1,
                pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
                pg_sys::RegProcedure::from(pg_sys::F_UUID_EQ),
                self.id,
            );
            uncaught::systable_beginscan(
                self.relation,
                self.index,
                true,
                self.snapshot,
                1,
                &mut key,
            )
        }
    }
}

/// An insert that is about to be done.
#[derive(Clone, Copy)]
struct Insert<'a> {
    relation: pg_sys::Relation,
    descriptor: pg_sys::TupleDesc,
    row: &'a Row,
}

impl Insert<'_> {
    /// Nothing here has a destructor: an error jumps over this frame.
    fn run(self) {
        // SAFETY: as many values as the table has columns, each of its column's type.
        // CatalogTupleInsert (catalog/indexing.c) asks for plain, immediate indexes: see
        // `Relation::check_indexes`.
        unsafe {
            let tuple = self.row.0.form(self.descriptor);
            uncaught::CatalogTupleInsert(self.relation, tuple);
            uncaught::heap_freetuple(tuple);
            uncaught::CommandCounterIncrement();
        }
    }
}

/// A delete that is about to be done.
#[derive(Clone, Copy)]
struct Delete {
    relation: pg_sys::Relation,
    tid: pg_sys::ItemPointerData,
    command: pg_sys::CommandId,
    wait: bool,
}

impl Delete {
    fn new(relation: pg_sys::Relation, tid: pg_sys::ItemPointerData, wait: bool) -> Self {
        // SAFETY: within a transaction that may write.
        let command = unsafe { pg_sys::GetCurrentCommandId(true) };
        Self { relation, tid, command, wait }
    }

    /// Nothing here has a destructor: an error jumps over this frame.
    fn run(self) -> pg_sys::TM_Result::Type {
        let mut tid = self.tid;
        // SAFETY: the tuple was visible to a fresh snapshot while the key's lock was held, so it
        // is still there, if only as somebody else's delete.
        unsafe {
            let mut failure: pg_sys::TM_FailureData = std::mem::zeroed();
            let result = uncaught::heap_delete(
                self.relation,
                &mut tid,
                self.command,
                std::ptr::null_mut(),
                self.wait,
                &mut failure,
                false,
            );
            uncaught::CommandCounterIncrement();
            result
        }
    }
}
