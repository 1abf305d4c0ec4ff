//! The databases of the server, as the launcher sees them: it is connected to none, so it reads
//! pg_database as the launcher of autovacuum does.

use pgrx::pg_sys;
use std::ffi::CStr;

pub struct Database {
    pub oid: pg_sys::Oid,
    pub name: String,
    /// Whether a sweeper may connect to it. Not to templates: no session works in one, and one that is
    /// connected to it keeps CREATE DATABASE waiting.
    pub is_open: bool,
}

/// Half-dropped by a DROP DATABASE that was interrupted (catalog/pg_database.h).
const INVALID: i32 = -2;

/// All of them.
pub fn list() -> Vec<Database> {
    let mut databases = Vec::new();
    // SAFETY: pg_database is shared, so it can be read without a database, within the transaction begun here.
    // GETSTRUCT gives the fixed columns of a tuple, which the scan pins until the next; a name is
    // NUL-terminated, and copied.
    unsafe {
        pg_sys::StartTransactionCommand();
        let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        let table = pg_sys::table_open(pg_sys::DatabaseRelationId, lock);
        let scan = pg_sys::systable_beginscan(
            table,
            pg_sys::InvalidOid,
            false,
            std::ptr::null_mut(),
            0,
            std::ptr::null_mut(),
        );
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            let row: *const pg_sys::FormData_pg_database = pg_sys::GETSTRUCT(tuple).cast();
            let name = CStr::from_ptr((*row).datname.data.as_ptr());
            databases.push(Database {
                oid: (*row).oid,
                name: name.to_string_lossy().into_owned(),
                is_open: (*row).datallowconn
                    && !(*row).datistemplate
                    && (*row).datconnlimit != INVALID,
            });
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(table, lock);
        pg_sys::CommitTransactionCommand();
    }
    databases
}
