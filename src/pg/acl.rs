//! Questions about functions in the catalog.

use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use std::ffi::CString;

/// Whether there is such a function (it may have been dropped since its OID was looked up).
pub fn exists(function: pg_sys::Oid) -> bool {
    // SAFETY: PROCOID has one key, an OID, and any OID may be asked for; the unused keys are ignored.
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

/// The function of this name that takes one argument of this type. Without a schema, the
/// search_path's first. `None` also if the name is invalid.
pub fn of_name(name: &[u8], argument: pg_sys::Oid) -> Option<pg_sys::Oid> {
    let name = CString::new(name).ok()?;
    let mut parts = std::ptr::null_mut();
    // SAFETY: SplitIdentifierString fills the list with pointers into `copy`, which stays palloc'd
    // until the call is over; each is a NUL-terminated string, which makeString takes. LookupFuncName
    // then gets a list of one or two String nodes, and one argument type, as its count says.
    let function = unsafe {
        let copy = pg_sys::pstrdup(name.as_ptr());
        if !pg_sys::SplitIdentifierString(copy, b'.' as std::ffi::c_char, &mut parts) {
            return None;
        }
        // An empty name is an empty list, which is null.
        if parts.is_null() || (*parts).length > 2 {
            return None;
        }
        for at in 0..(*parts).length as usize {
            let part = &mut (*(*parts).elements.add(at)).ptr_value;
            *part = pg_sys::makeString(part.cast()).cast();
        }
        pg_sys::LookupFuncName(parts, 1, &argument, true)
    };
    (function != pg_sys::InvalidOid).then_some(function)
}

/// Whether a role may execute a function. Postgres 16 made one function of those per catalog.
///
/// # Safety
/// The function and the role must exist.
pub unsafe fn may_execute(function: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: the function and the role exist, which this function demands.
    #[cfg(feature = "pg15")]
    let answer = unsafe { pg_sys::pg_proc_aclcheck(function, role, pg_sys::ACL_EXECUTE) };
    // SAFETY: the function and the role exist, which this function demands.
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
    // SAFETY: the function exists, which this function demands, so it has a schema.
    let schema = unsafe { pg_sys::get_func_namespace(function) };
    // SAFETY: `schema` is the function's, and the role exists, which this function demands.
    #[cfg(feature = "pg15")]
    let answer = unsafe { pg_sys::pg_namespace_aclcheck(schema, role, pg_sys::ACL_USAGE) };
    // SAFETY: `schema` is the function's, and the role exists, which this function demands.
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
