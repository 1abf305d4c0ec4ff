//! Sweeping a table: deleting records that have expired, clearing bodies past `response_retention`.
//!
//! Past the executor, as look-ups and inserts are, and in the order of the index on `sweep_at`. A
//! row that another transaction is writing, and a table that is locked (DROP EXTENSION, TRUNCATE),
//! is left for the next time: a sweep waits for no transaction.
//!
//! The entries of what was deleted stay in the index for as long as any snapshot may need them. So a walk
//! counts entries, and not rows alone: it looks at the clock among dead ones, too, and the next one goes on at
//! the very entry, however many have the same time.

use crate::pg::datum::encoding::to_utf8;
use crate::pg::datum::row::Columns;
use crate::pg::datum::varlena;
use crate::pg::table::index::Index;
use crate::pg::table::relation::Relation;
use crate::pg::table::walk::{IndexWalk, RowPlace};
use crate::pg::{clock, raw, snapshot, subtransaction};
use crate::session::counts;
use crate::stats::{Counter, Tally};
use crate::tables::records::canary;
use crate::tables::records::row::{Found, column};
use crate::tables::sweepable::Sweepable;
use crate::tables::{changing, open};
use pgrx::pg_sys::Datum;
use pgrx::{PgMemoryContexts, pg_sys};
use rules::error::{Code, Error, Result};
use rules::retention::{Due, due};
use rules::{Micros, Timestamp};
use std::collections::HashMap;
use std::rc::Rc;

/// Between looks at the clock, which take a part of the time that an entry does.
const ENTRIES_PER_LOOK: u32 = 32;

/// Where a walk is: when the row is due, and where it stands, by which the entries of one time are in order.
pub type Place = (Timestamp, RowPlace);

/// What to sweep, and how much of it at most.
#[derive(Clone, Copy)]
pub struct Portion {
    pub what: Sweepable,
    /// The portion before has looked at what is up to there.
    pub from: Option<Place>,
    pub rows: u64,
    /// Ends the portion early, after at least some entries.
    pub time: Micros,
}

/// What a sweep did.
#[derive(Default)]
pub struct Swept {
    pub deleted: u64,
    pub evicted: u64,
    /// Where the next portion goes on; `None`: nothing more is due.
    pub resume: Option<Place>,
    /// What was done by operation, as the server spells it.
    operations: HashMap<Box<[u8]>, RowCounts>,
    /// The operation of the latest row, not yet added to the others: rows that expire together are
    /// mostly of one.
    latest: (Box<[u8]>, RowCounts),
}

/// Deleted and evicted rows.
type RowCounts = (u64, u64);

impl Swept {
    pub fn rows(&self) -> u64 {
        self.deleted + self.evicted
    }

    /// Adds to the statistics what was done, once the transaction has committed.
    pub fn report(&mut self) {
        self.add_latest();
        for (operation, (deleted, evicted)) in &self.operations {
            // SAFETY: the result is copied into the tally while `operations` and the context are there.
            let operation = unsafe { to_utf8(operation) };
            let tally = Rc::new(Tally::new(operation));
            counts::count(&tally, Counter::Swept, *deleted);
            counts::count(&tally, Counter::Evicted, *evicted);
        }
    }

    fn count(&mut self, operation: Option<&[u8]>, deleted: u64, evicted: u64) {
        self.deleted += deleted;
        self.evicted += evicted;
        let Some(operation) = operation else { return };
        if *self.latest.0 != *operation {
            self.add_latest();
            self.latest.0 = operation.into();
        }
        self.latest.1.0 += deleted;
        self.latest.1.1 += evicted;
    }

    fn add_latest(&mut self) {
        let (operation, counts) = std::mem::take(&mut self.latest);
        if counts == RowCounts::default() {
            return;
        }
        let sum = self.operations.entry(operation).or_default();
        *sum = (sum.0 + counts.0, sum.1 + counts.1);
    }
}

/// Sweeps a portion; `None` if another session holds a lock on the table that keeps writers out.
///
/// # Errors
/// 55000 without an index by which to find what is due, which an administrator must have dropped.
pub fn sweep(portion: &Portion) -> Result<Option<Swept>> {
    let what = portion.what;
    let table = open::to_write_if_free(what.known_columns(), |catalog| what.table(catalog))?;
    let Some(table) = table else { return Ok(None) };
    open::check_indexes(&table)?;
    if let Sweepable::Records(durability) = what {
        canary::renew(&table, durability)?;
    }
    let Some(index) = table.index_on(what.due().0) else {
        return Err(no_index(what));
    };
    let mut swept = Swept::default();
    let mut snapshot = snapshot::current();
    let memory = PgMemoryContexts::new("pg_idempotent sweep");
    let now = clock::now();
    let walk = Walk {
        table: &table,
        index: &index,
        snapshot: &raw mut snapshot,
        now,
        portion,
        memory: memory.value(),
        swept: &raw mut swept,
    };
    // SAFETY: `Walk` is Copy, and what it points to outlives this frame; an error is resumed.
    let done = unsafe { subtransaction::call_keeping_error(|| walk.run()) };
    done.unwrap_or_else(|error| error.resume());
    Ok(Some(swept))
}

fn no_index(what: Sweepable) -> Error {
    let (table, (_, column)) = (what.name(), what.due());
    Error::new(Code::ObjectNotReady, format!("idempotent.{table} has no index on {column}"))
        .detail("Without it a sweep would read the whole table each time.")
        .hint(format!("CREATE INDEX {table}_{column}_idx ON idempotent.{table} ({column});"))
}

/// A walk along the index. Nothing in its methods has a destructor where Postgres is called: an
/// error jumps over their frames.
#[derive(Clone, Copy)]
struct Walk<'a> {
    table: &'a Relation,
    index: &'a Index,
    snapshot: pg_sys::Snapshot,
    now: Timestamp,
    portion: &'a Portion,
    /// For one row at a time.
    memory: pg_sys::MemoryContext,
    /// Outlives the walk, and is its caller's alone.
    swept: *mut Swept,
}

impl Walk<'_> {
    fn run(self) {
        let first = self.portion.from.map_or(Timestamp::MIN, |(at, _)| at);
        // SAFETY: `sweep` has opened table and index, which goes by the time at which rows are due, and keeps them
        // and the snapshot for as long as the walk; each tuple is used while it is pinned, and the walk is ended.
        // `call_keeping_error` is around the walk, and `swept` is its alone.
        unsafe {
            let walk = IndexWalk::begin(self.table, self.index, self.snapshot, (first, self.now));
            let (mut resume, mut entries, mut until) = (None, 0_u32, None);
            let mut is_skipping = self.portion.from.is_some();
            while walk.advance() {
                subtransaction::serve_interrupts();
                is_skipping = is_skipping && self.portion.from >= Some(walk.entry());
                if is_skipping {
                    continue;
                }
                // What was skipped is no part of the time: there would be portions that do nothing else.
                let until =
                    *until.get_or_insert_with(|| clock::now().saturating_add(self.portion.time));
                let tuple = walk.fetch();
                if !tuple.is_null() {
                    self.visit(tuple);
                }
                entries += 1;
                if self.is_enough(entries, until) {
                    resume = Some(walk.entry());
                    break;
                }
            }
            walk.end();
            raw::CommandCounterIncrement();
            (*self.swept).resume = resume;
        }
    }

    fn is_enough(self, entries: u32, until: Timestamp) -> bool {
        // SAFETY: `sweep` gave the walk the only pointer to `swept`, which outlives it.
        let rows = unsafe { (*self.swept).rows() };
        let is_time_to_look = entries.is_multiple_of(ENTRIES_PER_LOOK);
        rows >= self.portion.rows || is_time_to_look && clock::now() >= until
    }

    /// Does what is due of a row, unless another transaction is writing it.
    ///
    /// # Safety
    /// The tuple must be of the table, and pinned. It may raise an error past Rust: call it as `pg::raw` says.
    unsafe fn visit(self, tuple: pg_sys::HeapTuple) {
        // SAFETY: the tuple is of the table and pinned, which this function demands; `what` says of which table.
        unsafe {
            match self.portion.what {
                Sweepable::Records(_) => self.visit_record(tuple),
                Sweepable::Messages
                | Sweepable::Locks
                | Sweepable::Sagas
                | Sweepable::OutboxIds
                | Sweepable::Audit
                | Sweepable::Asked => self.visit_expired(tuple),
            }
        }
    }

    /// # Safety
    /// As for `visit`; the table must be one of records.
    unsafe fn visit_record(self, tuple: pg_sys::HeapTuple) {
        // SAFETY: the tuple is a record's and pinned, which this function demands, also while `found` is used.
        unsafe {
            let found = Found::of_raw(tuple, self.table);
            let has_body = !found.is_marked_evicted();
            let done = match due(&found.record, has_body, self.now) {
                Due::Nothing => None,
                Due::Delete => self.delete(tuple).then_some((1, 0)),
                // A record that takes the place of another is not to be missed by a change of durability.
                Due::Evict if Self::is_moving(&found) => None,
                Due::Evict => self.delete(tuple).then(|| {
                    self.insert_without_body(&found);
                    (0, 1)
                }),
            };
            self.count(found.row.columns(), done);
        }
    }

    /// Whether a change of durability is moving the operation's records, or this sweep cannot have it wait.
    ///
    /// # Safety
    /// The tuple must be pinned. It may raise an error past Rust: call it as `pg::raw` says.
    unsafe fn is_moving(found: &Found) -> bool {
        let name = found.row.get(column::OPERATION);
        // SAFETY: the column is a text, whose tuple is pinned, which this function demands.
        name.is_none_or(|name| unsafe { !changing::try_join_raw(varlena::slice(name)) })
    }

    /// A row that is there until it expires, which it has.
    ///
    /// # Safety
    /// As for `visit`.
    unsafe fn visit_expired(self, tuple: pg_sys::HeapTuple) {
        // SAFETY: the tuple is of the table and pinned, which this function demands.
        unsafe {
            let row = Columns::of_raw(tuple, self.table.descriptor());
            let done = self.delete(tuple).then_some((1, 0));
            self.count(&row, done);
        }
    }

    /// # Safety
    /// The row must be of the table, and its tuple pinned. It may raise an error past Rust: call it as
    /// `pg::raw` says.
    unsafe fn count(self, row: &Columns, done: Option<RowCounts>) {
        let Some((deleted, evicted)) = done else { return };
        let name = self.portion.what.counted_as().and_then(|column| row.get(column));
        // SAFETY: `counted_as` names a text column of the row, whose tuple is pinned, which this function
        // demands. `sweep` gave the walk the only pointer to `swept`, which outlives it.
        unsafe {
            let name = name.map(|name| varlena::slice_raw(name));
            (*self.swept).count(name, deleted, evicted);
        }
    }

    /// # Safety
    /// As for `visit`.
    unsafe fn delete(self, tuple: pg_sys::HeapTuple) -> bool {
        // SAFETY: the scan's snapshot saw the tuple, which is pinned, so it is there, if only as another
        // transaction's delete.
        unsafe { self.table.delete_raw((*tuple).t_self, false) == pg_sys::TM_Result::TM_Ok }
    }

    /// # Safety
    /// As for `visit`.
    unsafe fn insert_without_body(self, found: &Found) {
        let mut row = found.row.clone();
        for column in [column::RESPONSE, column::BODY] {
            row.set(column, None);
        }
        row.set(column::HEADERS, found.headers(true));
        row.set(column::EVICTED, Some(Datum::from(true)));
        row.set_time(column::SWEEP_AT, found.record.expires_at);
        // SAFETY: `sweep` has checked the indexes. The values are those of a record, or null, and point into the
        // tuple, which is pinned, which this function demands; the insert copies them. Nothing of the insert is
        // used after its memory is reset. (Without that a sweep of millions would keep it all.)
        unsafe {
            let before = pg_sys::CurrentMemoryContext;
            pg_sys::CurrentMemoryContext = self.memory;
            self.table.insert_raw(row.columns());
            pg_sys::CurrentMemoryContext = before;
            raw::MemoryContextReset(self.memory);
        }
    }
}
