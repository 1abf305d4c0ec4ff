//! The policies of operations, read from their table once per backend and forgotten when it changes.

use crate::pg::datum::row::Columns;
use crate::pg::datum::text::Text;
use crate::pg::datum::{array, interval};
use crate::pg::memory;
use crate::pg::table::relation::Relation;
use crate::settings::{self, Undeclared};
use crate::stats::Tally;
use crate::tables::open;
use crate::tables::{catalog, changing, earlier, exclusions, resets};
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};
use rules::error::{Error, Result};
use rules::http::HttpPolicy;
use rules::policy::{AfterReset, Durability, KeyDates, KeyForm, Mode, OnLapse, Policy, undeclared};
use rules::request::exclude::Exclusions;
use rules::store_failures::StoreFailures;
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

/// Columns of `idempotent.operation`, in order (sql/10_tables.sql).
mod column {
    use pgrx::pg_sys;

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
    pub const MAX_LEASE: usize = 20;
    pub const MAX_RETENTION: usize = 21;
    pub const KEY_FORM: usize = 22;
    pub const TYPES: &[pg_sys::Oid] = &[
        pg_sys::TEXTOID,
        pg_sys::INTERVALOID,
        pg_sys::INTERVALOID,
        pg_sys::INTERVALOID,
        pg_sys::INTERVALOID,
        pg_sys::INTERVALOID,
        pg_sys::TEXTOID,
        pg_sys::TEXTOID,
        pg_sys::INT4OID,
        pg_sys::BOOLOID,
        pg_sys::TEXTARRAYOID,
        pg_sys::TEXTARRAYOID,
        pg_sys::TEXTOID,
        pg_sys::TEXTOID,
        pg_sys::TEXTOID,
        pg_sys::TEXTOID,
        pg_sys::TEXTARRAYOID,
        pg_sys::TEXTARRAYOID,
        pg_sys::TEXTOID,
        pg_sys::INT4OID,
        pg_sys::INTERVALOID,
        pg_sys::INTERVALOID,
        pg_sys::TEXTOID,
    ];
}

/// Names come from callers, so their number has a bound; past it the cache starts anew.
const CACHE_LIMIT: usize = 1024;

/// What this backend keeps of an operation.
#[derive(Clone)]
pub struct Operation {
    pub policy: Rc<Policy>,
    /// Its counters.
    pub tally: Rc<Tally>,
    /// Whether another transaction is about to change where its records are.
    pub is_changing: bool,
}

#[derive(Default)]
struct Cache {
    /// The generation of the catalog in which it was filled: it is empty in any later one.
    generation: u64,
    by_name: HashMap<Box<[u8]>, Operation, BuildHasherDefault<NameHasher>>,
}

/// Eight bytes at a time. Names made to collide cost a comparison with [`CACHE_LIMIT`] others at the most, so the
/// hash need not be one that nobody can foresee, as the standard one is.
#[derive(Default)]
struct NameHasher(u64);

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        let mut last = [0; size_of::<u64>()];
        last[..rest.len()].copy_from_slice(rest);
        for word in words.iter().chain([&last]) {
            let mixed = (self.0 ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.0 = mixed ^ (mixed >> 32);
        }
    }

    fn write_usize(&mut self, length: usize) {
        self.0 ^= length as u64;
    }

    // The table takes its place from the lowest bits, and its tags from the highest.
    fn finish(&self) -> u64 {
        self.0
    }
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

/// An operation, with its own policy, or the defaults if it is not configured.
///
/// # Errors
/// 42704 if it is not configured, where that is refused.
pub fn get(name: &Text<'_>) -> Result<Operation> {
    let operation = got(name)?;
    if !operation.policy.is_declared {
        match settings::undeclared_operations() {
            Undeclared::Allow => {}
            Undeclared::Warn => warn(undeclared(name.utf8)),
            Undeclared::Refuse => return Err(undeclared(name.utf8)),
        }
    }
    Ok(operation)
}

fn warn(error: Error) {
    ErrorReport::new(PgSqlErrorCode::ERRCODE_WARNING, error.message, "pg_idempotent")
        .set_detail(error.detail.unwrap_or_default())
        .set_hint(error.hint.unwrap_or_default())
        .report(PgLogLevel::WARNING);
}

/// As `get`, for one that the call has got already, as one warning is enough, or that need not be configured.
pub fn got(name: &Text<'_>) -> Result<Operation> {
    if let Some(operation) = CACHE.with_borrow(|cache| cache.get(name.server)) {
        return Ok(operation);
    }
    let table = open::to_read(column::TYPES, |catalog| catalog.operation)?;
    let generation = catalog::generation();
    let operation = Operation {
        policy: Rc::new(with_past(read(&table, name)?.unwrap_or_default(), name)?),
        tally: Rc::new(Tally::new(name.utf8)),
        is_changing: changing::is_under_way(name),
    };
    // What was read is kept, so the lock need not be: an update of the extension waits for it.
    table.give_back();
    // A change says so once.
    if !operation.is_changing {
        CACHE.with_borrow_mut(|cache| cache.keep(generation, name.server, operation.clone()));
    }
    Ok(operation)
}

/// The row of a configured operation, as a datum of its row type.
pub fn row(name: &Text<'_>) -> Result<Option<Datum>> {
    let table = open::to_read(column::TYPES, |catalog| catalog.operation)?;
    // SAFETY: F_TEXTEQ compares texts, and `name` is one; the tuple is copied while the visit pins it.
    Ok(unsafe {
        table.scan(pg_sys::F_TEXTEQ, name.datum, |tuple| {
            Some(pg_sys::heap_copy_tuple_as_datum(tuple, table.descriptor()))
        })
    })
}

/// What the operation has lost from a table that it does not use any more, and what it has forgotten
/// under earlier settings.
fn with_past(policy: Policy, name: &Text<'_>) -> Result<Policy> {
    let lost_before = resets::lost_with(name, policy.durability)?.unwrap_or(policy.lost_before);
    exclusions::numbered(Policy { lost_before, earlier: earlier::of(name)?, ..policy }, name)
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
        let micros = |index| column(index).and_then(|datum| interval::micros(datum));
        let text = |index| column(index).map(|datum| Text::from_datum(datum).utf8);
        let texts = |index| column(index).map_or(Ok(Vec::new()), |datum| array::owned(datum));
        let role = |index| text(index).map(|role| String::from_utf8_lossy(role).into_owned());
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
            key_form: text(column::KEY_FORM).map_or(Ok(default.key_form), KeyForm::parse)?,
            lost_before: default.lost_before,
            max_response_bytes: column(column::MAX_RESPONSE_BYTES)
                .map_or(default.max_response_bytes, |datum| datum.value() as i32),
            scope_required: column(column::SCOPE_REQUIRED).is_some_and(|datum| datum.value() != 0),
            exclude: Exclusions::parse(texts(column::FINGERPRINT_EXCLUDE)?)?,
            store_failures: StoreFailures::parse(texts(column::STORE_FAILURES)?)?,
            http: HttpPolicy::parse(texts(column::HTTP_STORE)?, texts(column::HTTP_HEADERS)?)?,
            role: role(column::ROLE),
            take_role: role(column::TAKE_ROLE),
            max_lease: micros(column::MAX_LEASE),
            max_retention: micros(column::MAX_RETENTION),
            is_declared: true,
            earlier: default.earlier,
            exclusion_set: default.exclusion_set,
            earlier_exclusions: default.earlier_exclusions,
        })
    }
}
