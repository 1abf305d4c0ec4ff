//! The policies of operations, read from their table once per backend and forgotten when it changes.

use crate::pg::datum::array;
use crate::pg::datum::row::Columns;
use crate::pg::datum::text::Text;
use crate::pg::memory;
use crate::pg::table::relation::Relation;
use crate::stats::Tally;
use crate::tables::open;
use crate::tables::{catalog, resets};
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::Micros;
use rules::duration::interval_micros;
use rules::error::Result;
use rules::http::HttpPolicy;
use rules::policy::{AfterReset, Durability, KeyDates, Mode, OnLapse, Policy};
use rules::request::exclude::Exclusions;
use rules::store_failures::StoreFailures;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// Columns of `idempotent.operation`, in order (sql/10_tables.sql).
mod column {
    pub const RETENTION: usize = 1;
    pub const FAILURE_RETENTION: usize = 2;
    pub const RESPONSE_RETENTION: usize = 3;
    pub const LEASE: usize = 4;
    pub const WAIT: usize = 5;
    pub const DURABILITY: usize = 6;
    pub const ON_LAPSE: usize = 7;
    pub const MAX_RESPONSE_BYTES: usize = 8;
    pub const SCOPE_REQUIRED: usize = 9;
    pub const FINGERPRINT_EXCLUDE: usize = 10;
    pub const STORE_FAILURES: usize = 11;
    pub const AFTER_RESET: usize = 12;
    pub const MODE: usize = 13;
    pub const KEY_DATES: usize = 14;
    pub const ROLE: usize = 15;
    pub const HTTP_STORE: usize = 16;
    pub const HTTP_HEADERS: usize = 17;
    pub const TAKE_ROLE: usize = 18;
    pub const COUNT: usize = 20;
}

/// Names come from callers, so their number has a bound; past it the cache starts anew.
const CACHE_LIMIT: usize = 1024;

/// What this backend keeps of an operation.
#[derive(Clone)]
pub struct Operation {
    pub policy: Rc<Policy>,
    /// Its counters.
    pub tally: Rc<Tally>,
}

#[derive(Default)]
struct Cache {
    /// The generation of the catalog in which it was filled: it is empty in any later one.
    generation: u64,
    by_name: HashMap<Box<[u8]>, Operation>,
}

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::new(Cache::default());
}

pub fn init() {
    memory::on_exhaustion(|| drop(CACHE.take()));
}

impl Cache {
    fn get(&self, name: &[u8]) -> Option<Operation> {
        if self.generation != catalog::generation() {
            return None;
        }
        self.by_name.get(name).cloned()
    }

    fn keep(&mut self, generation: u64, name: &[u8], operation: Operation) {
        // What was invalidated while it was read is good for this call, not for the next.
        if generation != catalog::generation() {
            return;
        }
        if self.generation != generation || self.by_name.len() >= CACHE_LIMIT {
            self.by_name.clear();
            self.generation = generation;
        }
        self.by_name.insert(name.into(), operation);
    }
}

/// When this transaction commits, every session reads the settings anew.
///
/// # Errors
/// 55000 within ALTER EXTENSION UPDATE, if it leads to another version than the library's.
pub fn tell_others() -> Result<()> {
    catalog::forget();
    // SAFETY: CacheInvalidateRelcacheByRelid raises an error unless the relation exists; `catalog::get` has
    // found it in this transaction.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(catalog::get()?.operation) };
    Ok(())
}

/// Whether the current user is a member of a role; a role that was dropped has no members.
pub fn is_member(role: u32) -> bool {
    // SAFETY: has_privs_of_role takes any two OIDs: a role that does not exist has no members (acl.c).
    unsafe { pg_sys::has_privs_of_role(pg_sys::GetUserId(), pg_sys::Oid::from(role)) }
}

/// An operation, with its own policy, or the defaults if it is not configured.
pub fn get(name: &Text<'_>) -> Result<Operation> {
    if let Some(operation) = CACHE.with_borrow(|cache| cache.get(name.server)) {
        return Ok(operation);
    }
    let table = open::to_read(column::COUNT, |catalog| catalog.operation)?;
    let generation = catalog::generation();
    let operation = Operation {
        policy: Rc::new(with_loss(read(&table, name)?.unwrap_or_default(), name)?),
        tally: Rc::new(Tally::new(name.utf8)),
    };
    // What was read is kept, so the lock need not be: an update of the extension waits for it.
    table.give_back();
    CACHE.with_borrow_mut(|cache| cache.keep(generation, name.server, operation.clone()));
    Ok(operation)
}

/// The row of a configured operation, as a datum of its row type.
pub fn row(name: &Text<'_>) -> Result<Option<Datum>> {
    let table = open::to_read(column::COUNT, |catalog| catalog.operation)?;
    // SAFETY: F_TEXTEQ compares texts, and `name` is one; the tuple is copied while the visit pins it.
    Ok(unsafe {
        table.scan(pg_sys::F_TEXTEQ, name.datum, |tuple| {
            Some(pg_sys::heap_copy_tuple_as_datum(tuple, table.descriptor()))
        })
    })
}

/// What the operation has lost from a table that it does not use any more.
fn with_loss(policy: Policy, name: &Text<'_>) -> Result<Policy> {
    let lost_before = resets::lost_with(name)?.unwrap_or(policy.lost_before);
    Ok(Policy { lost_before, ..policy })
}

fn read(table: &Relation, name: &Text<'_>) -> Result<Option<Policy>> {
    // SAFETY: F_TEXTEQ compares texts, and `name` is one; `columns` are those of the operation's row, and
    // `parse` copies what it keeps while the visit pins the tuple.
    unsafe {
        table.scan(pg_sys::F_TEXTEQ, name.datum, |tuple| {
            let columns = Columns::of(tuple, table.descriptor());
            Some(parse(&|column| columns.get(column)))
        })
    }
    .transpose()
}

/// # Safety
/// `column` must give the columns of a row of `idempotent.operation`.
unsafe fn parse(column: &dyn Fn(usize) -> Option<Datum>) -> Result<Policy> {
    let default = Policy::default();
    // SAFETY: the columns are those of a row of `idempotent.operation`, which this function demands; each is
    // read as the type that sql/10_tables.sql declares it with.
    unsafe {
        let micros = |index| column(index).and_then(|datum| stored_micros(datum));
        let text = |index| column(index).map(|datum| Text::from_datum(datum).utf8);
        let texts = |index| column(index).map_or(Ok(Vec::new()), |datum| text_array(datum));
        let role =
            |index| column(index).map(|datum| datum.value() as u32).filter(|role| *role != 0);
        Ok(Policy {
            retention: micros(column::RETENTION).unwrap_or(default.retention),
            failure_retention: micros(column::FAILURE_RETENTION)
                .unwrap_or(default.failure_retention),
            response_retention: micros(column::RESPONSE_RETENTION),
            lease: micros(column::LEASE),
            wait: micros(column::WAIT),
            durability: text(column::DURABILITY)
                .map_or(Ok(default.durability), Durability::parse)?,
            on_lapse: text(column::ON_LAPSE).map_or(Ok(default.on_lapse), OnLapse::parse)?,
            after_reset: text(column::AFTER_RESET)
                .map_or(Ok(default.after_reset), AfterReset::parse)?,
            mode: text(column::MODE).map_or(Ok(default.mode), Mode::parse)?,
            key_dates: text(column::KEY_DATES).map_or(Ok(default.key_dates), KeyDates::parse)?,
            lost_before: default.lost_before,
            max_response_bytes: column(column::MAX_RESPONSE_BYTES)
                .map_or(default.max_response_bytes, |datum| datum.value() as i32),
            scope_required: column(column::SCOPE_REQUIRED).is_some_and(|datum| datum.value() != 0),
            exclude: Exclusions::parse(texts(column::FINGERPRINT_EXCLUDE)?)?,
            store_failures: StoreFailures::parse(texts(column::STORE_FAILURES)?)?,
            http: HttpPolicy::parse(texts(column::HTTP_STORE)?, texts(column::HTTP_HEADERS)?)?,
            role: role(column::ROLE),
            take_role: role(column::TAKE_ROLE),
        })
    }
}

/// # Safety
/// `datum` must be an interval.
unsafe fn stored_micros(datum: Datum) -> Option<Micros> {
    // SAFETY: `datum` is an interval, which this function demands, and points to one.
    let interval = unsafe { *datum.cast_mut_ptr::<pg_sys::Interval>() };
    interval_micros(interval.month, interval.day, interval.time)
}

/// The elements of a text array, in UTF-8; null elements are passed over.
///
/// # Errors
/// 53200 if there is not enough memory for them.
///
/// # Safety
/// `datum` must be a text[].
pub unsafe fn text_array(datum: Datum) -> Result<Vec<Vec<u8>>> {
    // SAFETY: `datum` is a text[], which this function demands, and the elements are copied before it ends.
    let elements = unsafe { array::texts(datum)? };
    Ok(elements.into_iter().flatten().map(|text| text.utf8.to_vec()).collect())
}
