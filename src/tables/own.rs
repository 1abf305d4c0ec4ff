//! The slots that this database answers for, where there are several nodes: `idempotent.own`. Without a row it
//! answers for all.
//!
//! Every door that begins something asks here, once it has the lock of its table. A change is announced as
//! soon as its row is written, and then waits for those that came before (sql/64_nodes.sql). Until it commits,
//! what is about to go is refused, and what is about to come not yet accepted.

use crate::pg::datum::row::Columns;
use crate::pg::datum::text::Text;
use crate::pg::memory;
use crate::pg::table::lookup::{self, Key, RowState};
use crate::pg::table::relation::Relation;
use crate::tables::{catalog, open};
use pgrx::pg_sys;
use rules::error::{Code, Error, Result};
use rules::own::Slots;
use rules::slot;
use std::cell::{Cell, RefCell};

/// Columns of the table, in order (sql/64_nodes.sql).
mod column {
    use pgrx::pg_sys;

    pub const SLOTS: usize = 1;
    pub const TYPES: &[pg_sys::Oid] =
        &[pg_sys::BOOLOID, pg_sys::TEXTOID, pg_sys::TIMESTAMPTZOID, pg_sys::TEXTOID];
}

thread_local! {
    /// The generation in which this database was seen to answer for all slots.
    static ALL: Cell<Option<u64>> = const { Cell::new(None) };
    /// The generation in which it was seen to answer for some, and which.
    static SOME: RefCell<Option<(u64, Slots)>> = const { RefCell::new(None) };
}

pub fn init() {
    memory::on_exhaustion(|| drop(SOME.take()));
}

/// Refuses an owner whose slot is not this database's, as of what the session has learned: to be called with
/// the table open that is written, or after `catalog::refresh`.
///
/// # Errors
/// ID010 if another node answers for the owner.
pub fn check(scope: &[u8], key: &[u8]) -> Result<()> {
    if ALL.get() == Some(catalog::generation()) {
        return Ok(());
    }
    let owner = slot::owner(scope, key);
    answer(slot::of(owner), |slots| slots.refusal(owner))
        .and_then(|refused| refused.map_or(Ok(()), Err))
}

/// Whether a slot is this database's.
pub fn owns(slot: u16) -> Result<bool> {
    if ALL.get() == Some(catalog::generation()) {
        return Ok(true);
    }
    Ok(answer(slot, |_| ())?.is_none())
}

/// What to say of a slot that is not this database's; `None` if it is.
fn answer<T>(slot: u16, refusal: impl Fn(&Slots) -> T) -> Result<Option<T>> {
    let say = |slots: &Slots| (!slots.contains(slot)).then(|| refusal(slots));
    let generation = catalog::generation();
    let known = SOME.with_borrow(|known| match known {
        Some((seen, slots)) if *seen == generation => Some(say(slots)),
        _ => None,
    });
    if let Some(said) = known {
        return Ok(said);
    }
    let table = open::to_read(column::TYPES, |catalog| catalog.own)?;
    let generation = catalog::generation();
    let [now, then] = read(&table)?;
    table.give_back();
    let said = then.iter().chain(&now).find_map(say);
    // What a running transaction may yet take back is looked at again the next time.
    if then.is_none() {
        ALL.set(now.is_none().then_some(generation));
        SOME.replace(now.map(|slots| (generation, slots)));
    }
    Ok(said)
}

/// The slots as of now, and those after a change that is under way; `None` for all, or for no change.
fn read(table: &Relation) -> Result<[Option<Slots>; 2]> {
    let seen = lookup::dirty(table, Key::only());
    Ok(match seen.state {
        RowState::Nothing => [None, None],
        RowState::Settled => [Some(slots(table, seen.tuple)?), None],
        // All are about to be this database's: they are not yet.
        RowState::Leaving => {
            let now = slots(table, seen.tuple)?;
            [Some(now.clone()), Some(now)]
        }
        RowState::Arriving => {
            let before = lookup::current(table, Key::only());
            let now = (!before.is_null()).then(|| slots(table, before)).transpose()?;
            [now, Some(slots(table, seen.tuple)?)]
        }
    })
}

fn slots(table: &Relation, tuple: pg_sys::HeapTuple) -> Result<Slots> {
    // SAFETY: the tuple is not null, and a palloc'd copy of one of this table, whose columns `Relation::open_locked` has
    // compared with those known; `slots` is declared text NOT NULL.
    let text = unsafe {
        Columns::of(tuple, table.descriptor()).get(column::SLOTS).map(|text| Text::from_datum(text))
    };
    let text = text.and_then(|text| std::str::from_utf8(text.utf8).ok());
    text.and_then(Slots::parse).ok_or_else(|| {
        Error::new(Code::ObjectNotReady, "the slots of this database cannot be read")
            .detail("idempotent.own was written by hand.")
            .hint("An administrator sets them anew: SELECT idempotent_own(...).")
    })
}
