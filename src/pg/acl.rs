//! Questions about functions in the catalog.

use pgrx::pg_sys;
use pgrx::pg_sys::Datum;

/// Whether there is such a function (it may have been dropped since its OID was looked up).
pub fn exists(function: pg_sys::Oid) -> bool {
    // SAFETY: a syscache look-up.
    unsafe {
        pg_sys::SearchSysCacheExists(
            pg_sys::SysCacheIdentifier::PROCOID as i32,
            Datum::from(function),
            Datum::from(0),
            Datum::from(0),
            Datum::from(0),
        )
    }
}

/// Whether a role may execute a function. Postgres 16 made one function of those per catalog.
///
/// # Safety
/// The function and the role must exist.
pub unsafe fn may_execute(function: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: as the caller says.
    #[cfg(feature = "pg15")]
    let answer = unsafe { pg_sys::pg_proc_aclcheck(function, role, pg_sys::ACL_EXECUTE) };
    // SAFETY: as the caller says.
    #[cfg(not(feature = "pg15"))]
    let answer = unsafe {
        pg_sys::object_aclcheck(
            pg_sys::ProcedureRelationId,
            function,
            role,
            u64::from(pg_sys::ACL_EXECUTE),
        )
    };
    answer == pg_sys::AclResult::ACLCHECK_OK
}

/// The schema of a function, if the role may not use what is in it.
///
/// # Safety
/// The function and the role must exist.
pub unsafe fn closed_schema(function: pg_sys::Oid, role: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: as the caller says; a function cannot be without its schema.
    let schema = unsafe { pg_sys::get_func_namespace(function) };
    // SAFETY: as above.
    #[cfg(feature = "pg15")]
    let answer = unsafe { pg_sys::pg_namespace_aclcheck(schema, role, pg_sys::ACL_USAGE) };
    // SAFETY: as above.
    #[cfg(not(feature = "pg15"))]
    let answer = unsafe {
        pg_sys::object_aclcheck(
            pg_sys::NamespaceRelationId,
            schema,
            role,
            u64::from(pg_sys::ACL_USAGE),
        )
    };
    (answer != pg_sys::AclResult::ACLCHECK_OK).then_some(schema)
}
