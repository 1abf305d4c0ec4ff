//! A record as a row: its columns, and what the domain judges by.

use crate::pg::datum::make;
use crate::pg::datum::row::Columns;
use crate::pg::datum::text::Text;
use crate::pg::datum::varlena;
use crate::pg::raw;
use crate::pg::table::relation::Relation;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::identity::{Identity, RecordId};
use rules::record::{Record, State};
use rules::request::fingerprint::Fingerprint;
use rules::{Timestamp, retention};

/// Columns of a record, in the order of sql/10_tables.sql.
pub mod column {
    use pgrx::pg_sys;

    pub const RECORD_ID: usize = 0;
    pub const FINGERPRINT: usize = 1;
    pub const EXPIRES_AT: usize = 2;
    pub const SWEEP_AT: usize = 3;
    pub const FINISHED_AT: usize = 4;
    pub const FINGERPRINT_VERSION: usize = 5;
    pub const SLOT: usize = 6;
    pub const STATE: usize = 7;
    pub const EVICTED: usize = 8;
    pub const OPERATION: usize = 9;
    pub const SCOPE: usize = 10;
    pub const KEY: usize = 11;
    pub const RESPONSE: usize = 12;
    pub const STATUS: usize = 13;
    pub const HEADERS: usize = 14;
    pub const BODY: usize = 15;
    pub const CHECKPOINT: usize = 16;
    pub const FENCE: usize = 17;
    pub const LEASE_UNTIL: usize = 18;
    pub const CLAIMED_AT: usize = 19;
    pub const ATTEMPT: usize = 20;
    pub const ATTEMPT_ID: usize = 21;
    pub const FIRST_SENT: usize = 22;
    pub const TYPES: &[pg_sys::Oid] = &[
        pg_sys::UUIDOID,
        pg_sys::UUIDOID,
        pg_sys::TIMESTAMPTZOID,
        pg_sys::TIMESTAMPTZOID,
        pg_sys::TIMESTAMPTZOID,
        pg_sys::INT2OID,
        pg_sys::INT2OID,
        pg_sys::CHAROID,
        pg_sys::BOOLOID,
        pg_sys::TEXTOID,
        pg_sys::TEXTOID,
        pg_sys::TEXTOID,
        pg_sys::JSONBOID,
        pg_sys::INT4OID,
        pg_sys::JSONBOID,
        pg_sys::BYTEAOID,
        pg_sys::JSONBOID,
        pg_sys::INT8OID,
        pg_sys::TIMESTAMPTZOID,
        pg_sys::TIMESTAMPTZOID,
        pg_sys::INT4OID,
        pg_sys::UUIDOID,
        pg_sys::TIMESTAMPTZOID,
    ];
}

/// Whose record it is: the identity as the server spells it, and the id.
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
pub struct Row(pub(super) Columns);

impl Row {
    /// A row of an owner's with nothing else in it.
    ///
    /// It points into `owner` and must not outlive it.
    pub fn new(owner: &Owner<'_>) -> Self {
        let mut row = Self(Columns::null());
        row.set(column::RECORD_ID, Some(Datum::from(owner.id.0.as_ptr())));
        row.set(column::SLOT, Some(make::slot(owner.identity.slot())));
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

    pub fn columns(&self) -> &Columns {
        &self.0
    }

    fn int8(&self, column: usize) -> Option<i64> {
        self.get(column).map(|datum| datum.value() as i64)
    }

    fn uuid(&self, column: usize) -> Option<[u8; 16]> {
        // SAFETY: `Found::of` asks for fingerprint and attempt_id alone, which are declared uuid: a pointer to 16
        // bytes of the tuple.
        self.get(column).map(|datum| unsafe { *datum.cast_mut_ptr::<[u8; 16]>() })
    }
}

/// A record that was found: a copy of the tuple, its columns, and what the domain judges by.
pub struct Found {
    pub(super) tid: pg_sys::ItemPointerData,
    pub(super) inserted_by: Option<pg_sys::TransactionId>,
    pub row: Row,
    pub record: Record,
}

impl Found {
    /// # Safety
    /// `tuple` must be of that table, and as it is (a copy, or pinned) outlive what is read from it.
    pub unsafe fn of(tuple: pg_sys::HeapTuple, table: &Relation) -> Self {
        // SAFETY: the tuple is of the table, and there for as long as the result, which this function demands.
        unsafe { Self::from_columns(tuple, Columns::of(tuple, table.descriptor())) }
    }

    /// Like `of`, for callers that catch its errors themselves.
    ///
    /// # Safety
    /// As for `of`. It may raise an error past Rust: call it as `pg::raw` says.
    pub unsafe fn of_raw(tuple: pg_sys::HeapTuple, table: &Relation) -> Self {
        // SAFETY: the tuple is of the table, and there for as long as the result, which this function demands.
        unsafe { Self::from_columns(tuple, Columns::of_raw(tuple, table.descriptor())) }
    }

    /// # Safety
    /// The columns must be those of the tuple, a record's, and the tuple outlive the result.
    unsafe fn from_columns(tuple: pg_sys::HeapTuple, columns: Columns) -> Self {
        // SAFETY: the columns are a record's, which this function demands; each is read as the type that
        // sql/10_tables.sql declares it with.
        unsafe {
            let row = Row(columns);
            let fingerprint = row.uuid(column::FINGERPRINT).map(|digest| Fingerprint {
                version: row
                    .get(column::FINGERPRINT_VERSION)
                    .map_or(0, |datum| datum.value() as i16),
                digest,
            });
            let state = row.get(column::STATE).map_or(0, |datum| datum.value() as u8);
            let inserted_by = inserter(tuple);
            Self {
                tid: (*tuple).t_self,
                record: Record {
                    // A state that the library does not know: it cannot tell.
                    state: State::from_byte(state).unwrap_or(State::Unknown),
                    fingerprint,
                    fence: row.int8(column::FENCE),
                    attempt: row.get(column::ATTEMPT).map_or(1, |datum| datum.value() as i32),
                    attempt_id: row.uuid(column::ATTEMPT_ID),
                    lease_until: row.int8(column::LEASE_UNTIL),
                    expires_at: row.int8(column::EXPIRES_AT).unwrap_or(Timestamp::MAX),
                    mine: inserted_by
                        .is_some_and(|xid| raw::TransactionIdIsCurrentTransactionId(xid)),
                },
                inserted_by,
                row,
            }
        }
    }

    pub fn status(&self) -> Option<i32> {
        self.row.get(column::STATUS).map(|datum| datum.value() as i32)
    }

    /// When the holders of the lease say that the key was first sent, at the latest.
    pub fn first_sent(&self) -> Option<Timestamp> {
        self.row.int8(column::FIRST_SENT)
    }

    /// Whether the body is gone: too large to keep, or past `response_retention` as of `now`, swept
    /// or not.
    pub fn evicted(&self, now: Timestamp) -> bool {
        self.is_marked_evicted()
            || retention::body_is_over(self.sweep_at(), self.record.expires_at, now)
    }

    /// The headers, as far as they are kept: small ones outlive the body.
    pub fn headers(&self, evicted: bool) -> Option<Datum> {
        self.row.get(column::HEADERS).filter(|headers| !evicted || outlive_the_body(*headers))
    }

    /// Whether the body was left out or cleared.
    pub fn is_marked_evicted(&self) -> bool {
        self.row.get(column::EVICTED).is_some_and(|datum| datum.value() != 0)
    }

    /// When a sweep is to look at the record.
    pub fn sweep_at(&self) -> Timestamp {
        self.row.int8(column::SWEEP_AT).unwrap_or(Timestamp::MAX)
    }
}

/// Headers of up to so many bytes are kept when the body is not: what Location and `ETag` say is still
/// true then.
const LASTING_HEADERS: usize = 8 * 1024;

/// Whether headers are small enough to be kept without the body.
pub fn outlive_the_body(headers: Datum) -> bool {
    // SAFETY: both callers pass the headers of a row or of an answer, declared jsonb, which is a varlena.
    unsafe { varlena::raw_size(headers) <= LASTING_HEADERS }
}

/// The transaction that inserted the tuple, unless the tuple is frozen.
///
/// # Safety
/// `tuple` must be one of an ordinary table, pinned or copied.
pub unsafe fn inserter(tuple: pg_sys::HeapTuple) -> Option<pg_sys::TransactionId> {
    // SAFETY: the tuple can be read, which this function demands, and one of an ordinary table has t_xmin in
    // that union (access/htup_details.h).
    unsafe {
        let header = (*tuple).t_data;
        let frozen =
            u32::from((*header).t_infomask) & pg_sys::HEAP_XMIN_FROZEN == pg_sys::HEAP_XMIN_FROZEN;
        (!frozen).then_some((*header).t_choice.t_heap.t_xmin)
    }
}
