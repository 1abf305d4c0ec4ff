//! Where our tables are: OIDs, looked up once per backend and forgotten when any of them changes.

use crate::pg::datum::row::Columns;
use crate::pg::datum::varlena;
use crate::pg::memory;
use pgrx::pg_sys;
use rules::error::{Code, DAMAGED, Error, Result};
use rules::policy::Durability;
use rules::version;
use std::cell::Cell;
use std::ffi::CStr;

/// The extension's relations.
#[derive(Clone, Copy)]
pub struct Catalog {
    unlogged: pg_sys::Oid,
    logged: pg_sys::Oid,
    pub operation: pg_sys::Oid,
    pub fence: pg_sys::Oid,
    pub position: pg_sys::Oid,
    pub reset: pg_sys::Oid,
    pub earlier: pg_sys::Oid,
    pub exclusions: pg_sys::Oid,
    pub own: pg_sys::Oid,
    pub audit: pg_sys::Oid,
    pub asked: pg_sys::Oid,
    pub messages: pg_sys::Oid,
    pub offsets: pg_sys::Oid,
    pub locks: pg_sys::Oid,
    pub sagas: pg_sys::Oid,
    pub outbox_messages: pg_sys::Oid,
    pub outbox_ids: pg_sys::Oid,
    pub outbox_dead: pg_sys::Oid,
}

impl Catalog {
    pub fn records(&self, durability: Durability) -> pg_sys::Oid {
        match durability {
            Durability::Unlogged => self.unlogged,
            Durability::Logged => self.logged,
        }
    }

    /// Every table that holds keys.
    pub fn keyed(&self) -> [pg_sys::Oid; 9] {
        [
            self.unlogged,
            self.logged,
            self.messages,
            self.offsets,
            self.locks,
            self.sagas,
            self.outbox_messages,
            self.outbox_ids,
            self.outbox_dead,
        ]
    }

    fn mentions(&self, relation: pg_sys::Oid) -> bool {
        relation == self.unlogged
            || relation == self.logged
            || relation == self.operation
            || relation == self.fence
            || relation == self.position
            || relation == self.reset
            || relation == self.earlier
            || relation == self.exclusions
            || relation == self.own
            || relation == self.audit
            || relation == self.asked
            || relation == self.messages
            || relation == self.offsets
            || relation == self.locks
            || relation == self.sagas
            || relation == self.outbox_messages
            || relation == self.outbox_ids
            || relation == self.outbox_dead
    }
}

thread_local! {
    static CATALOG: Cell<Option<Catalog>> = const { Cell::new(None) };
    static GENERATION: Cell<u64> = const { Cell::new(0) };
}

pub fn init() {
    memory::on_exhaustion(forget);
    // SAFETY: the callback is a function of this library, which Postgres never unloads.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(on_relation_changed), pg_sys::Datum::from(0));
    }
}

/// Counts invalidations: a caller that reads it before and after knows whether what it read still holds.
pub fn generation() -> u64 {
    GENERATION.get()
}

/// Learns what other sessions said has changed.
pub fn refresh() {
    // SAFETY: AcceptInvalidationMessages may run at any point of a transaction; of ours it runs
    // `on_relation_changed`, which only sets two cells.
    unsafe { pg_sys::AcceptInvalidationMessages() };
}

/// The extension's relations.
///
/// # Errors
/// 42P01 where there are none: the extension was dropped. 55000 where they are of another version.
pub fn get() -> Result<Catalog> {
    if let Some(catalog) = CATALOG.get() {
        return Ok(catalog);
    }
    let catalog = look_up()?;
    CATALOG.set(Some(catalog));
    Ok(catalog)
}

fn look_up() -> Result<Catalog> {
    if let Some(schema) = schema_version() {
        version::check(env!("CARGO_PKG_VERSION"), &schema)?;
    }
    // SAFETY: the name is NUL-terminated, and every caller is within a transaction, as a syscache look-up
    // demands; a schema that is missing is InvalidOid.
    let schema = unsafe { pg_sys::get_namespace_oid(c"idempotent".as_ptr(), true) };
    let relation = |name: &CStr| -> Result<pg_sys::Oid> {
        // SAFETY: the name is NUL-terminated, and the call within a transaction; InvalidOid is a schema
        // without relations.
        let oid = unsafe { pg_sys::get_relname_relid(name.as_ptr(), schema) };
        if oid == pg_sys::InvalidOid {
            return Err(Error::new(
                Code::UndefinedTable,
                format!("relation \"idempotent.{}\" does not exist", name.to_string_lossy()),
            )
            .hint(DAMAGED));
        }
        Ok(oid)
    };
    Ok(Catalog {
        unlogged: relation(c"record")?,
        logged: relation(c"record_logged")?,
        operation: relation(c"operation")?,
        fence: relation(c"fence")?,
        position: relation(c"outbox_position")?,
        reset: relation(c"reset")?,
        earlier: relation(c"earlier_retention")?,
        exclusions: relation(c"exclusion")?,
        own: relation(c"own")?,
        audit: relation(c"audit")?,
        asked: relation(c"asked")?,
        messages: relation(c"messages")?,
        offsets: relation(c"offsets")?,
        locks: relation(c"locks")?,
        sagas: relation(c"saga_run")?,
        outbox_messages: relation(c"outbox_message")?,
        outbox_ids: relation(c"outbox_id")?,
        outbox_dead: relation(c"outbox_dead")?,
    })
}

/// The version of the extension in this database; `None` without the extension.
fn schema_version() -> Option<String> {
    // SAFETY: every caller is within a transaction. The scan key is of the type of the index's column; F_NAMEEQ
    // reads a name as far as its NUL (nameeq, name.c). pg_extension has fewer columns than ROOM, extversion
    // is a text, and it is copied before the scan, which pins its tuple, ends.
    unsafe {
        let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        let table = pg_sys::table_open(pg_sys::ExtensionRelationId, lock);
        let mut key: pg_sys::ScanKeyData = std::mem::zeroed();
        pg_sys::ScanKeyInit(
            &mut key,
            pg_sys::Anum_pg_extension_extname as pg_sys::AttrNumber,
            pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
            pg_sys::RegProcedure::from(pg_sys::F_NAMEEQ),
            pg_sys::Datum::from(c"pg_idempotent".as_ptr()),
        );
        let scan = pg_sys::systable_beginscan(
            table,
            pg_sys::Oid::from(pg_sys::ExtensionNameIndexId),
            true,
            std::ptr::null_mut(),
            1,
            &mut key,
        );
        let tuple = pg_sys::systable_getnext(scan);
        let version = (!tuple.is_null())
            .then(|| Columns::of(tuple, (*table).rd_att))
            .and_then(|row| row.get(pg_sys::Anum_pg_extension_extversion as usize - 1))
            .map(|text| String::from_utf8_lossy(varlena::slice(text)).into_owned());
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(table, lock);
        version
    }
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
