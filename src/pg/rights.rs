//! The rights of a relation's owner, for a moment.

use crate::pg::datum::encoding::to_server;
use pgrx::pg_sys;

/// Whether the current user is a member of the role of this name; `None` if there is none.
pub fn is_member(role: &str) -> Option<bool> {
    // SAFETY: `to_server` gives a NUL-terminated name; get_role_oid looks it up, and has_privs_of_role takes any
    // two OIDs (acl.c).
    unsafe {
        let role = pg_sys::get_role_oid(to_server(role), true);
        (role != pg_sys::InvalidOid).then(|| pg_sys::has_privs_of_role(pg_sys::GetUserId(), role))
    }
}

/// Whether there is a role with this OID.
pub fn exists(role: pg_sys::Oid) -> bool {
    // SAFETY: GetUserNameFromId takes any OID, and with `noerr` returns a null pointer for a missing role.
    !unsafe { pg_sys::GetUserNameFromId(role, true) }.is_null()
}

/// The rights of a relation's owner until dropped: callers are granted functions, not the tables and
/// sequences behind them.
pub struct OwnerRights {
    user: pg_sys::Oid,
    context: i32,
}

impl OwnerRights {
    /// # Safety
    /// The relation must be open.
    pub unsafe fn of(relation: pg_sys::Relation) -> Self {
        let mut before = Self { user: pg_sys::InvalidOid, context: 0 };
        // SAFETY: the relation is open, which this function demands, so its owner can be read. The user and
        // the context set here go with the drop, and with Postgres' abort (xact.c) if that comes first.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut before.user, &mut before.context);
            pg_sys::SetUserIdAndSecContext(
                (*(*relation).rd_rel).relowner,
                before.context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32,
            );
        }
        before
    }
}

impl Drop for OwnerRights {
    fn drop(&mut self) {
        // SAFETY: `of` read both from this backend, in this transaction: the user exists.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) };
    }
}
