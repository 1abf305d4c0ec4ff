//! What differs between the supported majors, in one place.

use pgrx::pg_sys;
use pgrx::pg_sys::Datum;

/// `heap_form_tuple`, whose arrays are declared const since Postgres 16.
///
/// # Safety
/// As many values and nulls as the descriptor has columns, each of its column's type.
pub unsafe fn form_tuple(
    descriptor: pg_sys::TupleDesc,
    values: &[Datum],
    nulls: &[bool],
) -> pg_sys::HeapTuple {
    // SAFETY: as the caller says; the arrays are only read.
    unsafe {
        pg_sys::heap_form_tuple(descriptor, values.as_ptr().cast_mut(), nulls.as_ptr().cast_mut())
    }
}

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
