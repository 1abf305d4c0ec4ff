//! Where our tables are: OIDs, looked up once per backend and forgotten when any of them changes.

use crate::pg::memory;
use pgrx::pg_sys;
use rules::error::{Code, Error, Result};
use rules::policy::Durability;
use std::cell::Cell;
use std::ffi::CStr;

/// The extension's relations.
#[derive(Clone, Copy)]
pub struct Catalog {
    unlogged: pg_sys::Oid,
    logged: pg_sys::Oid,
    pub operation: pg_sys::Oid,
    pub fence: pg_sys::Oid,
    /// Invalid in a schema of version 0.1, which had no such table.
    pub reset: pg_sys::Oid,
    /// Invalid there, too, and so are the next.
    pub messages: pg_sys::Oid,
    pub offsets: pg_sys::Oid,
    pub locks: pg_sys::Oid,
}

impl Catalog {
    pub fn records(&self, durability: Durability) -> pg_sys::Oid {
        match durability {
            Durability::Unlogged => self.unlogged,
            Durability::Logged => self.logged,
        }
    }

    /// Whether the schema is of this version.
    pub fn is_complete(&self) -> bool {
        [self.reset, self.messages, self.offsets, self.locks]
            .iter()
            .all(|relation| *relation != pg_sys::InvalidOid)
    }

    fn mentions(&self, relation: pg_sys::Oid) -> bool {
        relation == self.unlogged
            || relation == self.logged
            || relation == self.operation
            || relation == self.fence
            || relation == self.reset
            || relation == self.messages
            || relation == self.offsets
            || relation == self.locks
    }
}

thread_local! {
    static CATALOG: Cell<Option<Catalog>> = const { Cell::new(None) };
    static GENERATION: Cell<u64> = const { Cell::new(0) };
}

pub fn init() {
    memory::on_exhaustion(forget);
    // SAFETY: registers a callback of this library, which Postgres never unloads.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(on_relation_changed), pg_sys::Datum::from(0));
    }
}

/// Counts invalidations: who reads it before and after knows whether what it read still holds.
pub fn generation() -> u64 {
    GENERATION.get()
}

/// Learns what other sessions said has changed; the generation from then on.
pub fn refresh() -> u64 {
    // SAFETY: runs the callback below, among others.
    unsafe { pg_sys::AcceptInvalidationMessages() };
    generation()
}

/// The extension's relations, or an error where there are none (the extension was dropped).
pub fn get() -> Result<Catalog> {
    if let Some(catalog) = CATALOG.get()
        // What ALTER EXTENSION UPDATE adds is found as soon as it is there.
        && catalog.is_complete()
    {
        return Ok(catalog);
    }
    let catalog = look_up()?;
    CATALOG.set(Some(catalog));
    Ok(catalog)
}

fn look_up() -> Result<Catalog> {
    // SAFETY: a syscache look-up by a constant name, within a transaction.
    let schema = unsafe { pg_sys::get_namespace_oid(c"idempotent".as_ptr(), true) };
    // SAFETY: as above; an invalid schema has no relations.
    let look_up = |name: &CStr| unsafe { pg_sys::get_relname_relid(name.as_ptr(), schema) };
    let relation = |name: &CStr| -> Result<pg_sys::Oid> {
        let oid = look_up(name);
        if oid == pg_sys::InvalidOid {
            return Err(Error::new(
                Code::UndefinedTable,
                format!("relation \"idempotent.{}\" does not exist", name.to_string_lossy()),
            )
            .hint("Restore the extension: DROP EXTENSION pg_idempotent; CREATE EXTENSION pg_idempotent;"));
        }
        Ok(oid)
    };
    Ok(Catalog {
        unlogged: relation(c"record")?,
        logged: relation(c"record_logged")?,
        operation: relation(c"operation")?,
        fence: relation(c"fence")?,
        reset: look_up(c"reset"),
        messages: look_up(c"messages"),
        offsets: look_up(c"offsets"),
        locks: look_up(c"locks"),
    })
}

/// Forgets where the tables are, and with them all that is kept by generation.
pub fn forget() {
    CATALOG.set(None);
    GENERATION.set(GENERATION.get().wrapping_add(1));
}

/// Runs whenever this backend learns that a relation changed, at almost any point: it only forgets.
///
/// While nothing is known of where our tables are, any relation may be one of them.
unsafe extern "C-unwind" fn on_relation_changed(_: pg_sys::Datum, relation: pg_sys::Oid) {
    let ours = relation == pg_sys::InvalidOid
        || CATALOG.get().is_none_or(|catalog| catalog.mentions(relation));
    if ours {
        forget();
    }
}
