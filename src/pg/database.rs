//! Databases by name.

use crate::pg::datum::encoding::to_utf8;
use pgrx::pg_sys;
use std::ffi::CStr;

/// The name of a database; `None` if there is none of this OID.
pub fn name(database: pg_sys::Oid) -> Option<String> {
    // SAFETY: get_database_name takes any OID and returns null or a palloc'd, NUL-terminated copy, which
    // nothing else points to when it is freed.
    unsafe {
        let name = pg_sys::get_database_name(database);
        if name.is_null() {
            return None;
        }
        let copy = to_utf8(CStr::from_ptr(name).to_bytes());
        let copy = String::from_utf8_lossy(copy).into_owned();
        pg_sys::pfree(name.cast());
        Some(copy)
    }
}

/// The name of the current database.
pub fn this() -> String {
    // SAFETY: MyDatabaseId is set when the backend connects and never written after that.
    name(unsafe { pg_sys::MyDatabaseId }).unwrap_or_default()
}
