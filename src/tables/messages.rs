//! Messages that a consumer has seen: `idempotent.messages`, a row each, past the executor.
//!
//! Every writer of a row holds the message's lock, for the moment of looking and inserting: from
//! then on the row stands for it, seen by others as being inserted. A batch goes through its messages in
//! the order of their bytes and holds no lock while it waits, so two batches wait for each other in
//! one direction only; and it never holds more than one lock, however many messages there are. It waits as
//! long as its caller's patience lasts, for all of them together.

use crate::pg::datum::make;
use crate::pg::datum::row::Columns;
use crate::pg::datum::text::Text;
use crate::pg::table::lookup::{Key, Look, RowState, Seen};
use crate::pg::table::relation::Relation;
use crate::pg::{lock, raw, snapshot, subtransaction};
use crate::tables::hold::RowPatience;
use crate::tables::records::row::inserter;
use crate::tables::{open, own};
use pgrx::pg_sys::Datum;
use pgrx::{PgMemoryContexts, pg_sys};
use rules::Timestamp;
use rules::error::{Code, Error, Result};
use rules::slot;

/// Columns of the table, in order (sql/50_consumer.sql).
pub mod column {
    use pgrx::pg_sys;

    pub const EXPIRES_AT: usize = 0;
    pub const SEEN_AT: usize = 1;
    pub const SLOT: usize = 2;
    pub const CONSUMER: usize = 3;
    pub const SCOPE: usize = 4;
    pub const MESSAGE_ID: usize = 5;
    pub const TYPES: &[pg_sys::Oid] = &[
        pg_sys::TIMESTAMPTZOID,
        pg_sys::TIMESTAMPTZOID,
        pg_sys::INT2OID,
        pg_sys::TEXTOID,
        pg_sys::TEXTOID,
        pg_sys::TEXTOID,
    ];
}

/// A message that may be new to a consumer.
#[derive(Clone, Copy)]
pub struct Arriving<'a> {
    pub message: Text<'a>,
    /// Until when it is known to have been seen.
    pub expires_at: Timestamp,
}

/// Messages that may be new to a consumer.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    pub consumer: Text<'a>,
    pub scope: Text<'a>,
    /// By their bytes, in order, and each once.
    pub messages: &'a [Arriving<'a>],
    pub now: Timestamp,
}

/// What a caller is told of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Marked {
    /// It is new, and from now on it is seen.
    First,
    Seen,
    /// Another transaction is at it, and the patience was not enough to see what comes of it.
    Held,
}

/// Marks the messages as seen; what each was.
///
/// # Errors
/// ID010 for an owner of another node. 40001 under REPEATABLE READ and above for a message that another transaction has seen since the
/// transaction's snapshot: the transaction does not see what came of it.
pub fn mark(batch: &Batch<'_>, patience: &impl RowPatience) -> Result<Vec<Marked>> {
    let table = open::to_write(column::TYPES, |catalog| catalog.messages)?;
    open::check_indexes(&table)?;
    for arriving in batch.messages {
        own::check(batch.scope.utf8, arriving.message.utf8)?;
        if !batch.scope.utf8.is_empty() {
            break;
        }
    }
    let mut answers = vec![Mark::Seen { by: None }; batch.messages.len()];
    let memory = PgMemoryContexts::new("pg_idempotent messages");
    let mut snapshot = snapshot::dirty();
    let walk = Walk {
        table: &table,
        batch,
        snapshot: &raw mut snapshot,
        memory: memory.value(),
        answers: answers.as_mut_ptr(),
    };
    let mut from = Start { message: 0, is_locked: false };
    loop {
        // SAFETY: `Walk` is Copy, and what it points to outlives this frame. After an error nothing is done but
        // to raise it, or 40001 in its place.
        let stop = match unsafe { subtransaction::call_keeping_error(|| walk.run(from)) } {
            Ok(None) => break,
            Ok(Some(stop)) => stop,
            // Written past the lock: by logical replication, or by an administrator.
            Err(error) if error.sqlstate() == UNIQUE_VIOLATION => {
                return Err(too_new(batch, "was written meanwhile"));
            }
            Err(error) => error.resume(),
        };
        let is_locked = match stop.by {
            Way::Transaction(xid) => patience.transaction_ends(xid).then_some(false),
            // SAFETY: a fresh snapshot saw the row in this statement, so it is there, if only as another
            // transaction's delete.
            Way::RowLock(tid) => unsafe { patience.lock_row(&table, tid) },
        };
        from = match is_locked {
            Some(is_locked) => Start { message: stop.message, is_locked },
            None => {
                answers[stop.message] = Mark::Held;
                Start { message: stop.message + 1, is_locked: false }
            }
        };
    }
    let is_newer = |mark: &Mark| match mark {
        Mark::First | Mark::Held => false,
        Mark::Seen { by } => by.is_some_and(snapshot::is_older_than),
    };
    if snapshot::is_frozen() && answers.iter().any(is_newer) {
        return Err(too_new(batch, "was seen after this transaction's snapshot"));
    }
    Ok(answers.into_iter().map(Mark::told).collect())
}

const UNIQUE_VIOLATION: &str = "23505";

fn too_new(batch: &Batch<'_>, why: &str) -> Error {
    let name = |text: &Text<'_>| String::from_utf8_lossy(text.utf8).into_owned();
    Error::new(
        Code::SerializationFailure,
        "could not serialize access due to concurrent use of a message",
    )
    .detail(format!(
        "A message of consumer \"{}\", scope \"{}\" {why}.",
        name(&batch.consumer),
        name(&batch.scope)
    ))
    .hint("Retry the transaction.")
}

/// What was found of a message.
#[derive(Clone, Copy)]
enum Mark {
    First,
    /// `by` the transaction that inserted it, unless that is this one, or the row is frozen.
    Seen {
        by: Option<pg_sys::TransactionId>,
    },
    Held,
}

impl Mark {
    fn told(self) -> Marked {
        match self {
            Self::First => Marked::First,
            Self::Seen { .. } => Marked::Seen,
            Self::Held => Marked::Held,
        }
    }
}

/// Where a walk begins.
#[derive(Clone, Copy)]
struct Start {
    message: usize,
    /// Whether the transaction has locked the row of that message.
    is_locked: bool,
}

/// Where a walk has to wait, and for what; it holds no lock then.
#[derive(Clone, Copy)]
struct Stop {
    message: usize,
    by: Way,
}

/// What is in the way.
#[derive(Clone, Copy)]
enum Way {
    /// A transaction is writing the row.
    Transaction(pg_sys::TransactionId),
    /// A transaction has locked the row, or began to write it after the look.
    RowLock(pg_sys::ItemPointerData),
}

/// Rows between two times that their memory is given back.
const ROWS_PER_RESET: usize = 32;

/// A walk through a batch. Nothing in its methods has a destructor: an error jumps over their
/// frames.
#[derive(Clone, Copy)]
struct Walk<'a> {
    table: &'a Relation,
    batch: &'a Batch<'a>,
    snapshot: pg_sys::Snapshot,
    /// For some rows at a time.
    memory: pg_sys::MemoryContext,
    /// As many as messages; outlives the walk, and is its caller's alone.
    answers: *mut Mark,
}

impl Walk<'_> {
    /// To the end of the batch, or to a message that has to be waited for.
    fn run(self, from: Start) -> Option<Stop> {
        let locks =
            lock::Names::new(&[b"message", self.batch.consumer.server, self.batch.scope.server]);
        // SAFETY: `mark` has opened the table and checked its indexes, which are closed below; after an error
        // Postgres' resource owner closes them. `answers` has as many elements as there are messages, and
        // nothing in `memory` is used after it is reset. `call_keeping_error` is around the whole walk.
        unsafe {
            let indexes = raw::CatalogOpenIndexes(self.table.raw);
            let before = pg_sys::CurrentMemoryContext;
            pg_sys::CurrentMemoryContext = self.memory;
            let mut stop = None;
            for (index, arriving) in self.batch.messages.iter().enumerate().skip(from.message) {
                let tag = locks.tag(arriving.message.server);
                let is_locked = from.is_locked && index == from.message;
                match self.mark(arriving, &tag, indexes, is_locked) {
                    Ok(mark) => *self.answers.add(index) = mark,
                    Err(by) => {
                        stop = Some(Stop { message: index, by });
                        break;
                    }
                }
                if index % ROWS_PER_RESET == ROWS_PER_RESET - 1 {
                    raw::MemoryContextReset(self.memory);
                }
                subtransaction::serve_interrupts();
            }
            raw::MemoryContextReset(self.memory);
            pg_sys::CurrentMemoryContext = before;
            raw::CatalogCloseIndexes(indexes);
            raw::CommandCounterIncrement();
            stop
        }
    }

    /// # Safety
    /// The indexes must be the table's, and open. It may raise an error past Rust: call it as `pg::raw` says.
    unsafe fn mark(
        self,
        arriving: &Arriving<'_>,
        tag: &pg_sys::LOCKTAG,
        indexes: pg_sys::CatalogIndexState,
        is_locked: bool,
    ) -> std::result::Result<Mark, Way> {
        let key = Key::texts(&[
            (column::MESSAGE_ID, arriving.message.datum),
            (column::CONSUMER, self.batch.consumer.datum),
            (column::SCOPE, self.batch.scope.datum),
        ]);
        let look = Look::new(self.table, key, self.snapshot);
        let mut is_locked = is_locked;
        loop {
            // SAFETY: LockAcquire copies the tag. The lock is released below, by the same resource owner, before
            // anything else is waited for.
            unsafe { raw::LockAcquire(tag, lock::MODE, false, false) };
            // SAFETY: the error is caught around the walk, which this function demands; the table is open.
            let seen = unsafe { look.newest() };
            let next = match seen.state {
                RowState::Nothing => Next::Insert,
                // SAFETY: a row that is settled has a tuple, copied from the table.
                RowState::Settled => unsafe { self.settled(&seen, is_locked) },
                // The transaction that is writing it may yet roll back; a deleted row then comes back.
                RowState::Arriving | RowState::Leaving => {
                    Next::WaitFor(Way::Transaction(seen.writer))
                }
            };
            if matches!(next, Next::Insert) {
                // SAFETY: the indexes are the table's, and open, which this function demands.
                unsafe { self.insert(arriving, indexes) };
            }
            // SAFETY: LockAcquire took it at the head of the loop, for the same resource owner.
            unsafe { raw::LockRelease(tag, lock::MODE, false) };
            match next {
                Next::Insert => return Ok(Mark::First),
                Next::Answer(mark) => return Ok(mark),
                Next::WaitFor(by) => return Err(by),
                Next::LookAgain => is_locked = false,
            }
            // SAFETY: the memory holds the copy in `seen`, which nothing uses after this; the error is caught
            // around the walk, which this function demands.
            unsafe {
                raw::MemoryContextReset(self.memory);
                subtransaction::serve_interrupts();
            }
        }
    }

    /// # Safety
    /// `seen` must have a tuple of the table. It may raise an error past Rust: call it as `pg::raw` says.
    unsafe fn settled(self, seen: &Seen, is_locked: bool) -> Next {
        // SAFETY: the tuple is a copy of one of the table, which this function demands, and a fresh snapshot has
        // seen it, so it is there to be deleted, if only as another transaction's delete.
        unsafe {
            let row = Columns::of_raw(seen.tuple, self.table.descriptor());
            let until = row.get(column::EXPIRES_AT).map_or(Timestamp::MAX, |at| at.value() as i64);
            if until > self.batch.now {
                let others =
                    |xid: &pg_sys::TransactionId| !raw::TransactionIdIsCurrentTransactionId(*xid);
                return Next::Answer(Mark::Seen { by: inserter(seen.tuple).filter(others) });
            }
            // Past its retention it counts as absent, swept or not.
            let tid = (*seen.tuple).t_self;
            match self.table.delete_raw(tid, is_locked) {
                pg_sys::TM_Result::TM_Ok => Next::Insert,
                pg_sys::TM_Result::TM_BeingModified => Next::WaitFor(Way::RowLock(tid)),
                // A sweep is at it, or was.
                _ => Next::LookAgain,
            }
        }
    }

    /// # Safety
    /// The indexes must be the table's, and open. It may raise an error past Rust: call it as `pg::raw` says.
    unsafe fn insert(self, arriving: &Arriving<'_>, indexes: pg_sys::CatalogIndexState) {
        let mut row = Columns::null();
        row.set(column::EXPIRES_AT, Some(Datum::from(arriving.expires_at)));
        row.set(column::SEEN_AT, Some(Datum::from(self.batch.now)));
        let slot = slot::of(slot::owner(self.batch.scope.utf8, arriving.message.utf8));
        row.set(column::SLOT, Some(make::slot(slot)));
        row.set(column::CONSUMER, Some(self.batch.consumer.datum));
        row.set(column::SCOPE, Some(self.batch.scope.datum));
        row.set(column::MESSAGE_ID, Some(arriving.message.datum));
        // SAFETY: each value is of the type that `column` names, and `form` copies it; the tuple is palloc'd in
        // the walk's memory, and the indexes are open, which this function demands.
        unsafe {
            let tuple = row.form(self.table.descriptor());
            raw::CatalogTupleInsertWithInfo(self.table.raw, tuple, indexes);
        }
    }
}

/// What to do about a message, once its lock is given back.
#[derive(Clone, Copy)]
enum Next {
    Insert,
    Answer(Mark),
    LookAgain,
    WaitFor(Way),
}
