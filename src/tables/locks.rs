//! Locks with a key: `idempotent.locks`, a row each, past the executor.
//!
//! As with leases, every change of a row happens under a lock of its own, held for that moment: a
//! fence is drawn there, so that the later holder has the higher one. Until its row is committed
//! others wait for the transaction that is writing it.

use crate::pg::clock;
use crate::pg::datum::make;
use crate::pg::datum::row::Columns;
use crate::pg::datum::text::Text;
use crate::pg::datum::varlena;
use crate::pg::limit::in_the_way;
use crate::pg::lock::{KeyLock, Names};
use crate::pg::table::lookup::{self, Key, RowState};
use crate::pg::table::relation::Relation;
use crate::tables::hold::{AsLongAsItTakes, Looked, Patience, RowPatience, hold};
use crate::tables::{fences, open, own};
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::error::Result;
use rules::lock::{Answer, Lock, ask, is_held};
use rules::slot;
use rules::{Micros, Timestamp};

/// Columns of the table, in order (sql/54_locks.sql).
pub mod column {
    use pgrx::pg_sys;

    pub const EXPIRES_AT: usize = 0;
    pub const ACQUIRED_AT: usize = 1;
    pub const FENCE: usize = 2;
    pub const SLOT: usize = 3;
    pub const RESOURCE: usize = 4;
    pub const SCOPE: usize = 5;
    pub const HOLDER: usize = 6;
    pub const TYPES: &[pg_sys::Oid] = &[
        pg_sys::TIMESTAMPTZOID,
        pg_sys::TIMESTAMPTZOID,
        pg_sys::INT8OID,
        pg_sys::INT2OID,
        pg_sys::TEXTOID,
        pg_sys::TEXTOID,
        pg_sys::TEXTOID,
    ];
}

/// What is locked, or is to be.
#[derive(Clone, Copy)]
pub struct Resource<'a> {
    pub name: Text<'a>,
    pub scope: Text<'a>,
}

/// The holder of a resource. The fence is told only to a caller with the holder's key.
#[derive(Clone, Copy)]
pub struct Grant {
    pub acquired: bool,
    pub fence: Option<i64>,
    pub holder: Datum,
    pub expires_at: Timestamp,
}

/// A row that was found.
struct LockRow {
    tuple: pg_sys::HeapTuple,
    columns: Columns,
    fence: i64,
    expires_at: Timestamp,
    holder: Datum,
}

impl LockRow {
    fn lock(&self) -> Lock<'_> {
        // SAFETY: `holder` is a NOT NULL text of a palloc'd copy of a tuple, which lives until the call's
        // memory context is reset.
        let holder = unsafe { varlena::slice(self.holder) };
        Lock { holder, fence: self.fence, expires_at: self.expires_at }
    }
}

/// Takes or extends the resource, unless another holder has it. The answer is that of this moment: it is
/// not held against the transaction's snapshot, as a lock that was given back leaves no row by which
/// to tell what the snapshot does not show.
///
/// # Errors
/// ID010 for an owner of another node.
pub fn acquire(
    resource: &Resource<'_>,
    key: &Text<'_>,
    ttl: Micros,
    patience: &impl RowPatience,
) -> Result<Grant> {
    let table = open()?;
    own::check(resource.scope.utf8, resource.name.utf8)?;
    let mut is_locked = false;
    loop {
        let Some((row_lock, found)) = find(&table, resource, patience)? else {
            // Taken or given back by a transaction that may yet roll back.
            if let Some(found) = seen(&table, resource) {
                return Ok(refused(found.holder, found.expires_at));
            }
            continue;
        };
        let now = clock::now();
        let lock = found.as_ref().map(LockRow::lock);
        let until = match ask(lock.as_ref(), key.server, ttl, now) {
            Answer::Granted { until } | Answer::Extended { until } => until,
            Answer::Refused => {
                let of = |found: &LockRow| (found.holder, found.expires_at);
                let (holder, expires_at) = found.as_ref().map_or((key.datum, now), of);
                return Ok(refused(holder, expires_at));
            }
        };
        let extended = found.as_ref().filter(|found| found.expires_at > now);
        let _row_lock = match remove(&table, row_lock, found.as_ref(), &mut is_locked, patience) {
            Removed::Done(row_lock) => row_lock,
            Removed::LookAgain => continue,
            // A row that has lapsed, and that another transaction has locked.
            Removed::InTheWay => {
                return Err(in_the_way("another transaction has locked the lock's row"));
            }
        };
        let (fence, since) = match extended {
            Some(found) => (found.fence, found.columns.get(column::ACQUIRED_AT)),
            None => {
                let last = found.as_ref().map(|found| found.fence);
                (fences::next(last)?, Some(Datum::from(now)))
            }
        };
        let mut row = Columns::null();
        row.set(column::EXPIRES_AT, Some(Datum::from(until)));
        row.set(column::ACQUIRED_AT, since);
        row.set(column::FENCE, Some(Datum::from(fence)));
        let slot = slot::of(slot::owner(resource.scope.utf8, resource.name.utf8));
        row.set(column::SLOT, Some(make::slot(slot)));
        row.set(column::RESOURCE, Some(resource.name.datum));
        row.set(column::SCOPE, Some(resource.scope.datum));
        row.set(column::HOLDER, Some(key.datum));
        // SAFETY: `open` has checked the indexes, and each value is of the type that `column` names.
        unsafe { table.insert(&row) }.unwrap_or_else(|error| error.resume());
        keep_promise();
        return Ok(Grant {
            acquired: true,
            fence: Some(fence),
            holder: key.datum,
            expires_at: until,
        });
    }
}

/// Gives the resource back; false if it is not, or no longer, held with this key and fence.
pub fn release(resource: &Resource<'_>, key: &Text<'_>, fence: i64) -> Result<bool> {
    let table = open()?;
    let mut is_locked = false;
    loop {
        let Some((row_lock, found)) = find(&table, resource, &AsLongAsItTakes)? else { continue };
        let lock = found.as_ref().map(LockRow::lock);
        if !is_held(lock.as_ref(), key.server, fence, clock::now()) {
            return Ok(false);
        }
        let removed = remove(&table, row_lock, found.as_ref(), &mut is_locked, &AsLongAsItTakes);
        if matches!(removed, Removed::Done(_)) {
            return Ok(true);
        }
    }
}

fn open() -> Result<Relation> {
    let table = open::to_write(column::TYPES, |catalog| catalog.locks)?;
    open::check_indexes(&table)?;
    Ok(table)
}

fn refused(holder: Datum, expires_at: Timestamp) -> Grant {
    Grant { acquired: false, fence: None, holder, expires_at }
}

fn key_of(resource: &Resource<'_>) -> Key {
    Key::texts(&[(column::RESOURCE, resource.name.datum), (column::SCOPE, resource.scope.datum)])
}

/// The row, also while a transaction is writing it.
fn seen(table: &Relation, resource: &Resource<'_>) -> Option<LockRow> {
    let seen = lookup::dirty(table, key_of(resource));
    (!seen.tuple.is_null()).then(|| found(table, seen.tuple))
}

/// The lock of the row, and the row if there is one, which no transaction is writing; `None` if the patience
/// was not enough.
fn find(
    table: &Relation,
    resource: &Resource<'_>,
    patience: &impl RowPatience,
) -> Result<Option<(KeyLock, Option<LockRow>)>> {
    let tag = Names::new(&[b"lock", resource.scope.server]).tag(resource.name.server);
    let look = || {
        let seen = lookup::dirty(table, key_of(resource));
        Ok(match seen.state {
            RowState::Nothing => Looked::Nothing,
            RowState::Settled => Looked::Settled(found(table, seen.tuple)),
            RowState::Arriving | RowState::Leaving => Looked::BeingWritten(seen.writer),
        })
    };
    // Its own lock is held for a moment: what may take long is the other's transaction.
    let patience = Patiently(patience);
    Ok(hold(tag, &patience, look)?.map(|held| (held.lock, held.row)))
}

/// Waits for the lock of the row, whatever the patience for the transaction that is writing it.
struct Patiently<'a, P>(&'a P);

impl<P: Patience> Patience for Patiently<'_, P> {
    fn lock(&self, tag: pg_sys::LOCKTAG) -> Option<KeyLock> {
        AsLongAsItTakes.lock(tag)
    }

    fn transaction_ends(&self, xid: pg_sys::TransactionId) -> bool {
        self.0.transaction_ends(xid)
    }
}

fn found(table: &Relation, tuple: pg_sys::HeapTuple) -> LockRow {
    // SAFETY: `tuple` is a palloc'd copy of a tuple of this table, whose columns `Relation::open_locked` has
    // compared with those known.
    let columns = unsafe { Columns::of(tuple, table.descriptor()) };
    let int8 = |column| columns.get(column).map_or(0, |datum| datum.value() as i64);
    LockRow {
        tuple,
        fence: int8(column::FENCE),
        expires_at: int8(column::EXPIRES_AT),
        holder: columns.get(column::HOLDER).unwrap_or(Datum::from(0)),
        columns,
    }
}

/// What became of a row that is to be deleted.
enum Removed {
    /// It is, or there was none; its lock is still held.
    Done(KeyLock),
    /// A transaction that takes no such lock (a sweep, an administrator's) was faster.
    LookAgain,
    /// A transaction has locked the row for longer than the patience.
    InTheWay,
}

/// Deletes the row, if one was found, and goes on holding its lock. For the end of a transaction that has locked
/// the row this waits, without the lock, so that others are told the holder at once.
fn remove(
    table: &Relation,
    row_lock: KeyLock,
    found: Option<&LockRow>,
    is_locked: &mut bool,
    patience: &impl RowPatience,
) -> Removed {
    let Some(found) = found else { return Removed::Done(row_lock) };
    // SAFETY: the copy has the position at which a fresh snapshot saw the row while its lock was held, so the
    // row is there, if only as another transaction's delete.
    let (tid, outcome) = unsafe {
        let tid = (*found.tuple).t_self;
        (tid, table.delete(tid, *is_locked))
    };
    if outcome == pg_sys::TM_Result::TM_Ok {
        return Removed::Done(row_lock);
    }
    drop(row_lock);
    pgrx::check_for_interrupts!();
    if outcome != pg_sys::TM_Result::TM_BeingModified {
        *is_locked = false;
        return Removed::LookAgain;
    }
    // SAFETY: a row that a fresh snapshot saw stays, if only as another transaction's delete, until the
    // statement's own snapshot is gone.
    match unsafe { patience.lock_row(table, tid) } {
        Some(locked) => {
            *is_locked = locked;
            Removed::LookAgain
        }
        None => Removed::InTheWay,
    }
}

/// The caller relies on the grant, so the commit must survive a crash,
/// whatever synchronous_commit says.
fn keep_promise() {
    // SAFETY: ForceSyncCommit sets a flag of this backend and cannot raise an error.
    unsafe { pg_sys::ForceSyncCommit() };
}
