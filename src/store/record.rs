//! Records: looked up by id, inserted, deleted. One row a key, written by whoever holds its lock.

use crate::domain::error::{Code, Error, Result};
use crate::domain::fingerprint::Fingerprint;
use crate::domain::identity::{Identity, RecordId};
use crate::domain::policy::Durability;
use crate::domain::verdict::{Record, State};
use crate::domain::{Micros, Timestamp};
use crate::entry::Text;
use crate::store::columns::Columns;
use crate::store::relation::Relation;
use crate::store::{lock, snapshot, subtransaction};
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use pgrx::pg_sys::panic::CaughtError;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Columns of a record, in order (sql/10_tables.sql).
pub mod column {
    pub const RECORD_ID: usize = 0;
    pub const FINGERPRINT: usize = 1;
    pub const FINISHED_AT: usize = 2;
    pub const EXPIRES_AT: usize = 3;
    pub const SWEEP_AT: usize = 4;
    pub const FENCE: usize = 5;
    pub const LEASE_UNTIL: usize = 6;
    pub const CLAIMED_AT: usize = 7;
    pub const ATTEMPT_ID: usize = 8;
    pub const ATTEMPT: usize = 9;
    pub const STATUS: usize = 10;
    pub const FINGERPRINT_VERSION: usize = 11;
    pub const STATE: usize = 12;
    pub const EVICTED: usize = 13;
    pub const OPERATION: usize = 14;
    pub const SCOPE: usize = 15;
    pub const KEY: usize = 16;
    pub const RESPONSE: usize = 17;
    pub const HEADERS: usize = 18;
    pub const BODY: usize = 19;
    pub const CHECKPOINT: usize = 20;
    pub const COUNT: usize = 21;
}

/// Whose record: the identity as the server spells it, and the id.
#[derive(Clone, Copy)]
pub struct Owner<'a> {
    pub operation: Text<'a>,
    pub scope: Text<'a>,
    pub key: Text<'a>,
    pub identity: Identity<'a>,
    pub id: RecordId,
}

/// One row of records.
#[derive(Clone)]
pub struct Row(Columns);

impl Row {
    /// A row of an owner's with nothing else in it.
    ///
    /// It points into `owner` and must not outlive it.
    pub fn new(owner: &Owner<'_>) -> Self {
        let mut row = Self(Columns::null());
        row.set(column::RECORD_ID, Some(Datum::from(owner.id.0.as_ptr())));
        row.set(column::OPERATION, Some(owner.operation.datum));
        row.set(column::SCOPE, Some(owner.scope.datum));
        row.set(column::KEY, Some(owner.key.datum));
        row.set(column::EVICTED, Some(Datum::from(false)));
        row
    }

    pub fn set(&mut self, column: usize, value: Option<Datum>) {
        self.0.set(column, value);
    }

    pub fn set_state(&mut self, state: State) {
        self.set(column::STATE, Some(Datum::from(state.to_byte() as i8)));
    }

    pub fn set_time(&mut self, column: usize, time: Timestamp) {
        self.set(column, Some(Datum::from(time)));
    }

    /// The row points to the digest, which must outlive it.
    pub fn set_fingerprint(&mut self, fingerprint: Option<&Fingerprint>) {
        self.set(column::FINGERPRINT, fingerprint.map(|f| Datum::from(f.digest.as_ptr())));
        self.set(column::FINGERPRINT_VERSION, fingerprint.map(|f| Datum::from(f.version)));
    }

    pub fn get(&self, column: usize) -> Option<Datum> {
        self.0.get(column)
    }

    fn int8(&self, column: usize) -> Option<i64> {
        self.get(column).map(|datum| datum.value() as i64)
    }

    fn uuid(&self, column: usize) -> Option<[u8; 16]> {
        // SAFETY: only asked of uuid columns, which are 16 bytes by reference.
        self.get(column).map(|datum| unsafe { *datum.cast_mut_ptr::<[u8; 16]>() })
    }
}

/// A record that was found: a copy of the tuple, its columns, and what the domain judges by.
pub struct Found {
    tid: pg_sys::ItemPointerData,
    inserted_by: Option<pg_sys::TransactionId>,
    pub row: Row,
    pub record: Record,
}

impl Found {
    pub fn status(&self) -> Option<i32> {
        self.row.get(column::STATUS).map(|datum| datum.value() as i32)
    }

    pub fn evicted(&self) -> bool {
        self.row.get(column::EVICTED).is_some_and(|datum| datum.value() != 0)
    }
}

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
    /// # Errors
    /// 40001 under REPEATABLE READ and above for an answer that is newer than the transaction's
    /// snapshot: the transaction could read it, but not the rows that belong to it.
    pub fn find(&self, owner: &Owner<'_>) -> Result<Option<Found>> {
        let found = if snapshot::is_serializable() {
            // An MVCC snapshot would leave predicate locks on index pages, on which transactions
            // with other keys would fail. Without one, a record that is replaced during the scan
            // can be missed in both places; the next scan sees it.
            let mut current = snapshot::current();
            self.first(owner, &raw mut current).or_else(|| self.first(owner, &raw mut current))
        } else {
            self.first(owner, std::ptr::null_mut())
        };
        found.map(|found| self.checked(owner, found)).transpose()
    }

    fn first(&self, owner: &Owner<'_>, snapshot: pg_sys::Snapshot) -> Option<Found> {
        // SAFETY: the id is a uuid, as the index is; the callers' snapshots outlive the scan;
        // `found_in` copies the tuple.
        unsafe {
            self.0.scan(pg_sys::F_UUID_EQ, Datum::from(owner.id.0.as_ptr()), snapshot, |tuple| {
                Some(self.found_in(tuple))
            })
        }
    }

    /// The record as of now, also while it is being written. Whoever holds the key's lock knows
    /// that nobody begins to insert it now; without the lock this is only a glance.
    ///
    /// # Errors
    /// As [`Records::find`].
    pub fn find_locked(&self, owner: &Owner<'_>) -> Result<Locked> {
        let mut dirty = snapshot::dirty();
        let dirty = &raw mut dirty;
        let mut writer = None;
        // SAFETY: the snapshot outlives the scan, which fills it in for each tuple it returns.
        let found = unsafe {
            self.0.scan(pg_sys::F_UUID_EQ, Datum::from(owner.id.0.as_ptr()), dirty, |tuple| {
                let busy = [(*dirty).xmin, (*dirty).xmax]
                    .into_iter()
                    .find(|xid| *xid != pg_sys::InvalidTransactionId);
                writer = writer.or(busy);
                // A record being replaced has a second version further on.
                busy.is_none().then(|| self.found_in(tuple))
            })
        };
        match (writer, found) {
            (Some(xid), _) => Ok(Locked::BeingWritten(xid)),
            (None, None) => Ok(Locked::Nothing),
            (None, Some(found)) => Ok(Locked::Found(Box::new(self.checked(owner, found)?))),
        }
    }

    /// # Safety
    /// `tuple` must be a pinned tuple of this table.
    unsafe fn found_in(&self, tuple: pg_sys::HeapTuple) -> Found {
        // SAFETY: the copy lives in the caller's memory context, longer than the pin; the columns
        // are read as they are declared.
        unsafe {
            let tuple = pg_sys::heap_copytuple(tuple);
            let row = Row(Columns::of(tuple, self.0.descriptor()));
            let fingerprint = row.uuid(column::FINGERPRINT).map(|digest| Fingerprint {
                version: row
                    .get(column::FINGERPRINT_VERSION)
                    .map_or(0, |datum| datum.value() as i16),
                digest,
            });
            let state = row.get(column::STATE).map_or(0, |datum| datum.value() as u8);
            let inserted_by = inserter(tuple);
            Found {
                tid: (*tuple).t_self,
                record: Record {
                    // A state of a newer version of the extension: nobody here can tell.
                    state: State::from_byte(state).unwrap_or(State::Unknown),
                    fingerprint,
                    fence: row.int8(column::FENCE),
                    attempt: row.get(column::ATTEMPT).map_or(1, |datum| datum.value() as i32),
                    attempt_id: row.uuid(column::ATTEMPT_ID),
                    lease_until: row.int8(column::LEASE_UNTIL),
                    expires_at: row.int8(column::EXPIRES_AT).unwrap_or(Timestamp::MAX),
                    mine: inserted_by
                        .is_some_and(|xid| pg_sys::TransactionIdIsCurrentTransactionId(xid)),
                },
                inserted_by,
                row,
            }
        }
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
        // SAFETY: as many values as the table has columns, each of its column's type.
        // CatalogTupleInsert (catalog/indexing.c) asks for plain, immediate indexes: ours are.
        let inserted = catch_unwind(AssertUnwindSafe(|| unsafe {
            let tuple = row.0.form(self.0.descriptor());
            pg_sys::CatalogTupleInsert(self.0.raw, tuple);
            pg_sys::heap_freetuple(tuple);
        }));
        let Err(payload) = inserted else {
            count_command();
            return Ok(());
        };
        if let Some(CaughtError::PostgresError(report)) = payload.downcast_ref::<CaughtError>()
            && report.sql_error_code() == pgrx::PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION
        {
            return Err(Error::new(
                Code::SerializationFailure,
                "could not serialize access due to concurrent use of the key",
            )
            .detail(format!("A record of {} was written meanwhile.", owner.identity.describe()))
            .hint("Retry the transaction."));
        }
        resume_unwind(payload)
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
            count_command();
        }
        Some(result == pg_sys::TM_Result::TM_Ok)
    }

    fn try_delete(&self, found: &Found, wait: bool) -> pg_sys::TM_Result::Type {
        let delete = Delete::new(self.0.raw, found.tid, wait);
        // SAFETY: an error goes on to the caller.
        let result = unsafe { subtransaction::call_keeping_error(|| delete.run()) };
        let result = result.unwrap_or_else(|error| error.resume());
        count_command();
        result
    }
}

/// What comes later in this transaction must see what was just written.
fn count_command() {
    // SAFETY: not in a parallel operation, as writers refuse those.
    unsafe { pg_sys::CommandCounterIncrement() };
}

unsafe extern "C-unwind" {
    // Postgres' own, not pgrx's wrapper: see `lock`.
    #[link_name = "heap_delete"]
    fn heap_delete_uncaught(
        relation: pg_sys::Relation,
        tid: pg_sys::ItemPointer,
        command: pg_sys::CommandId,
        crosscheck: pg_sys::Snapshot,
        wait: bool,
        failure: *mut pg_sys::TM_FailureData,
        changing_partition: bool,
    ) -> pg_sys::TM_Result::Type;
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
            heap_delete_uncaught(
                self.relation,
                &mut tid,
                self.command,
                std::ptr::null_mut(),
                self.wait,
                &mut failure,
                false,
            )
        }
    }
}

/// Who inserted the tuple, unless it is so old that nobody remembers.
///
/// # Safety
/// `tuple` must be valid.
unsafe fn inserter(tuple: pg_sys::HeapTuple) -> Option<pg_sys::TransactionId> {
    // SAFETY: as the caller says; t_xmin is the inserter for tuples of ordinary tables, and
    // nobody's for a frozen one (access/htup_details.h).
    unsafe {
        let header = (*tuple).t_data;
        let frozen =
            u32::from((*header).t_infomask) & pg_sys::HEAP_XMIN_FROZEN == pg_sys::HEAP_XMIN_FROZEN;
        (!frozen).then_some((*header).t_choice.t_heap.t_xmin)
    }
}
