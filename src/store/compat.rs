//! What differs between the supported majors, in one place.

use pgrx::pg_sys;

/// Whether a role may execute a function. Postgres 16 made one function of those per catalog.
///
/// # Safety
/// The function and the role must exist.
pub unsafe fn may_execute(function: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    let mode = pg_sys::ACL_EXECUTE.into();
    // SAFETY: as the caller says.
    #[cfg(feature = "pg15")]
    let answer = unsafe { pg_sys::pg_proc_aclcheck(function, role, mode) };
    // SAFETY: as the caller says.
    #[cfg(not(feature = "pg15"))]
    let answer =
        unsafe { pg_sys::object_aclcheck(pg_sys::ProcedureRelationId, function, role, mode) };
    answer == pg_sys::AclResult::ACLCHECK_OK
}
