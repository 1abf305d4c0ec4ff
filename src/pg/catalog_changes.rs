//! When what was looked up about functions, schemas and roles may no longer hold.

use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use pgrx::pg_sys::SysCacheIdentifier::{
    AUTHMEMROLEMEM, AUTHOID, DATABASEOID, LANGOID, NAMESPACEOID, PROCOID,
};
use std::cell::Cell;

thread_local! {
    static GENERATION: Cell<u64> = const { Cell::new(0) };
}

/// Registered once, when the library is loaded.
pub fn init() {
    // A function and what it is called by; the schemas; the roles, whose member is who, and the
    // database, whose owner is a member of pg_database_owner.
    for cache in [PROCOID, LANGOID, NAMESPACEOID, AUTHOID, AUTHMEMROLEMEM, DATABASEOID] {
        // SAFETY: registers a callback of this library, which Postgres never unloads.
        unsafe {
            pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(on_change), Datum::from(0));
        }
    }
}

/// Counts the changes that this backend has learned of: what was looked up holds while it stands still.
pub fn generation() -> u64 {
    GENERATION.get()
}

/// Learns what other sessions have changed; the generation from then on.
pub fn refresh() -> u64 {
    // SAFETY: within a transaction; it runs the callback below, among others.
    unsafe { pg_sys::AcceptInvalidationMessages() };
    generation()
}

/// Has every session learn that a relation changes, before it waits for the transaction that changes it: its
/// commit tells them, too, but then they have gone on meanwhile with what they knew.
pub fn announce(relation: pg_sys::Oid) {
    // SAFETY: MyDatabaseId is set when the backend connects and never written after that. The message is one of
    // a relation's cache entry (storage/sinval.h), whose other bytes nothing reads; all-zero is a value of the
    // union. Receivers rebuild the entry from the catalog, as after any change.
    unsafe {
        let mut message: pg_sys::SharedInvalidationMessage = std::mem::zeroed();
        message.rc.id = pg_sys::SHAREDINVALRELCACHE_ID as pg_sys::int8;
        message.rc.dbId = pg_sys::MyDatabaseId;
        message.rc.relId = relation;
        pg_sys::SendSharedInvalidMessages(&message, 1);
    }
}

// Postgres calls it with the cache and a hash of the key. It reads and raises nothing.
unsafe extern "C-unwind" fn on_change(_: Datum, _: std::ffi::c_int, _: u32) {
    GENERATION.set(GENERATION.get() + 1);
}
