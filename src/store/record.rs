//! Records: looked up by id, inserted, deleted. One row a key, written by whoever holds its lock.

use crate::domain::Timestamp;
use crate::domain::error::{Code, Error, Result};
use crate::domain::fingerprint::Fingerprint;
use crate::domain::identity::{Identity, RecordId};
use crate::domain::verdict::{Record, State};
use crate::entry::Text;
use crate::store::catalog::Table;
use crate::store::relation::Relation;
use crate::store::snapshot;
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

/// The columns of one row, as Postgres wants them.
#[derive(Clone)]
pub struct Row {
    values: [Datum; column::COUNT],
    nulls: [bool; column::COUNT],
}

impl Row {
    /// A row of an owner's with nothing else in it.
    ///
    /// It points into `owner` and must not outlive it.
    pub fn new(owner: &Owner<'_>) -> Self {
        let mut row =
            Self { values: [Datum::from(0); column::COUNT], nulls: [true; column::COUNT] };
        row.set(column::RECORD_ID, Some(Datum::from(owner.id.0.as_ptr())));
        row.set(column::OPERATION, Some(owner.operation.datum));
        row.set(column::SCOPE, Some(owner.scope.datum));
        row.set(column::KEY, Some(owner.key.datum));
        row.set(column::EVICTED, Some(Datum::from(false)));
        row
    }

    pub fn set(&mut self, column: usize, value: Option<Datum>) {
        self.nulls[column] = value.is_none();
        self.values[column] = value.unwrap_or(Datum::from(0));
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
        (!self.nulls[column]).then_some(self.values[column])
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
    /// A transaction that holds its claims by rows is inserting the record: wait for its end.
    BeingInserted(pg_sys::TransactionId),
}

/// A table of records, open.
pub struct Records(Relation);

impl Records {
    pub fn open_to_read(table: Table) -> Self {
        Self(Relation::open_to_read(table))
    }

    pub fn open_to_write(table: Table) -> Self {
        Self(Relation::open_to_write(table))
    }

    /// The record as of now, whatever snapshot the caller's statement runs with: who lost a race
    /// must see the winner.
    ///
    /// Under REPEATABLE READ a record that is newer than the transaction's snapshot is an error
    /// (40001): the transaction could read the answer, but not the rows that belong to it.
    pub fn find(&self, owner: &Owner<'_>) -> Result<Option<Found>> {
        // SAFETY: the id is a uuid, as the index is; `found_in` copies the tuple.
        let found = unsafe {
            self.0.scan(
                pg_sys::F_UUID_EQ,
                Datum::from(owner.id.0.as_ptr()),
                std::ptr::null_mut(),
                |tuple| Some(self.found_in(tuple)),
            )
        };
        found.map(|found| self.checked(owner, found)).transpose()
    }

    /// The record as of now, also while it is being written. The caller holds the key's lock, so
    /// nobody begins to write it now.
    pub fn find_locked(&self, owner: &Owner<'_>) -> Result<Locked> {
        let mut dirty = snapshot::dirty();
        let dirty = &raw mut dirty;
        let mut inserter = None;
        let mut leaving = None;
        // SAFETY: the snapshot outlives the scan, which fills it in for each tuple it returns.
        let found = unsafe {
            self.0.scan(pg_sys::F_UUID_EQ, Datum::from(owner.id.0.as_ptr()), dirty, |tuple| {
                let (inserting, deleting) = ((*dirty).xmin, (*dirty).xmax);
                if inserting != pg_sys::InvalidTransactionId {
                    inserter = Some(inserting);
                    return None;
                }
                let found = self.found_in(tuple);
                if deleting != pg_sys::InvalidTransactionId {
                    // A sweeper's or an administrator's delete: may yet be rolled back.
                    leaving = Some(found);
                    return None;
                }
                Some(found)
            })
        };
        if let Some(xid) = inserter {
            return Ok(Locked::BeingInserted(xid));
        }
        match found.or(leaving) {
            None => Ok(Locked::Nothing),
            Some(found) => Ok(Locked::Found(Box::new(self.checked(owner, found)?))),
        }
    }

    /// # Safety
    /// `tuple` must be a pinned tuple of this table.
    unsafe fn found_in(&self, tuple: pg_sys::HeapTuple) -> Found {
        let mut row = Row { values: [Datum::from(0); column::COUNT], nulls: [true; column::COUNT] };
        // SAFETY: the copy lives in the caller's memory context, longer than the pin; it is
        // deformed by the descriptor of its table, and the state's byte is read as declared.
        unsafe {
            let tuple = pg_sys::heap_copytuple(tuple);
            pg_sys::heap_deform_tuple(
                tuple,
                self.0.descriptor(),
                row.values.as_mut_ptr(),
                row.nulls.as_mut_ptr(),
            );
            let fingerprint = row.uuid(column::FINGERPRINT).map(|digest| Fingerprint {
                version: row.values[column::FINGERPRINT_VERSION].value() as i16,
                digest,
            });
            let state = row.values[column::STATE].value() as u8;
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
                    mine: is_mine(tuple),
                },
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
        if snapshot::is_frozen() && !found.record.mine && !self.is_in_own_snapshot(owner) {
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

    fn is_in_own_snapshot(&self, owner: &Owner<'_>) -> bool {
        // SAFETY: the transaction's snapshot is valid while it lasts under these isolation levels.
        unsafe {
            self.0
                .scan(
                    pg_sys::F_UUID_EQ,
                    Datum::from(owner.id.0.as_ptr()),
                    pg_sys::GetTransactionSnapshot(),
                    |_| Some(()),
                )
                .is_some()
        }
    }

    /// Inserts a record, into every index, under the unique constraint, which has the last word:
    /// a row that got there past the lock (logical replication, an administrator) is a lost race.
    pub fn insert(&self, owner: &Owner<'_>, row: &Row) -> Result<()> {
        // SAFETY: as many values as the table has columns, each of its column's type.
        // CatalogTupleInsert (catalog/indexing.c) asks for plain, immediate indexes: ours are.
        let inserted = catch_unwind(AssertUnwindSafe(|| unsafe {
            let tuple = pg_sys::heap_form_tuple(
                self.0.descriptor(),
                row.values.as_ptr(),
                row.nulls.as_ptr(),
            );
            pg_sys::CatalogTupleInsert(self.0.raw, tuple);
            pg_sys::heap_freetuple(tuple);
            // What comes later in this transaction must see it.
            pg_sys::CommandCounterIncrement();
        }));
        let Err(payload) = inserted else { return Ok(()) };
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

    /// Deletes a record that was found. That it is gone already (swept, forgotten) is fine.
    pub fn delete(&self, found: &Found) {
        let mut tid = found.tid;
        // SAFETY: the tuple was visible to a fresh snapshot while the key's lock was held. What
        // heap_delete answers is either done, or that somebody else's delete came first; neither
        // leaves anything to do, and heap_delete waits for whoever is still deciding.
        unsafe {
            let mut failure = pg_sys::TM_FailureData::default();
            pg_sys::heap_delete(
                self.0.raw,
                &mut tid,
                pg_sys::GetCurrentCommandId(true),
                std::ptr::null_mut(),
                true,
                &mut failure,
                false,
            );
            pg_sys::CommandCounterIncrement();
        }
    }
}

/// Whether the current transaction wrote the tuple.
///
/// # Safety
/// `tuple` must be valid.
unsafe fn is_mine(tuple: pg_sys::HeapTuple) -> bool {
    // SAFETY: as the caller says; t_xmin is the inserter for tuples of ordinary tables, and a
    // frozen one is nobody's (access/htup_details.h).
    unsafe {
        let header = (*tuple).t_data;
        let frozen =
            u32::from((*header).t_infomask) & pg_sys::HEAP_XMIN_FROZEN == pg_sys::HEAP_XMIN_FROZEN;
        !frozen && pg_sys::TransactionIdIsCurrentTransactionId((*header).t_choice.t_heap.t_xmin)
    }
}
