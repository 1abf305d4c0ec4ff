//! `idempotent_lock`, `idempotent_unlock`: locks that outlive transactions and connections.

use crate::api::consumer::checked;
use crate::keys::call::check_role;
use crate::keys::request::{limit, wait};
use crate::keys::waiting::Waiting;
use crate::pg::arguments::{Args, Returned};
use crate::pg::datum::text::Text;
use crate::pg::declaration::arguments;
use crate::pg::snapshot;
use crate::tables::locks::{Resource, acquire, release};
use crate::tables::operations;
use pgrx::pg_sys::Datum;
use rules::error::{Code, Error, Result};
use rules::names::{HOLDER, RESOURCE, SCOPE};
use rules::policy::Policy;
use std::rc::Rc;

arguments! {
    LOCK: Lock = "idempotent_lock" {
        resource: Text, key: Text, ttl: Interval, scope: Text,
    }
    UNLOCK: Unlock = "idempotent_unlock" {
        resource: Text, key: Text, scope: Text, fence: Int8,
    }
}

pub fn idempotent_lock(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_lock()");
    let limit = limit(None);
    let Asked { resource, key, policy } =
        asked(args.get(LOCK.resource), args.get(LOCK.key), args.get(LOCK.scope))?;
    let ttl = args.duration(LOCK.ttl, 1)?.ok_or_else(|| {
        Error::new(Code::InvalidParameter, "ttl must not be null")
            .detail("A lock ends by itself, should its holder never give it back.")
            .hint("Pass how long it may take, such as ttl => '10 minutes'.")
    })?;
    policy.check_scope(resource.name.utf8, resource.scope.utf8)?;
    policy.check_ttl(resource.name.utf8, ttl)?;
    let wait = wait(None, &policy);
    limit.set(wait);
    let grant = acquire(&resource, &key, ttl, &Waiting::uncounted(wait))?;
    args.return_row(&[
        Some(Datum::from(grant.acquired)),
        grant.fence.map(Datum::from),
        Some(grant.holder),
        Some(Datum::from(grant.expires_at)),
    ])
}

pub fn idempotent_unlock(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_unlock()");
    let Asked { resource, key, policy } =
        asked(args.get(UNLOCK.resource), args.get(UNLOCK.key), args.get(UNLOCK.scope))?;
    let fence = args.get(UNLOCK.fence).ok_or_else(|| {
        Error::new(Code::InvalidParameter, "fence must not be null")
            .detail("It tells the lock from one that was taken later with the same key.")
            .hint("Pass the fence that idempotent_lock returned: fence => ...")
    })?;
    let released = release(&resource, &key, fence)?;
    if !released {
        // What was locked before a scope was demanded is given back without one.
        policy.check_scope(resource.name.utf8, resource.scope.utf8)?;
    }
    Ok(Some(Datum::from(released)))
}

/// What a call says, and the settings of the operation that bears the resource's name.
struct Asked<'a> {
    resource: Resource<'a>,
    key: Text<'a>,
    policy: Rc<Policy>,
}

/// Checks the names and that the caller may, before anything is looked up. A resource needs no operation: its
/// name is often made for one job, so one without settings is no misspelt operation.
///
/// # Errors
/// ID006 for a bad name; 42501 if the caller is no member of the operation's role.
fn asked<'a>(
    resource: Option<Text<'a>>,
    key: Option<Text<'a>>,
    scope: Option<Text<'a>>,
) -> Result<Asked<'a>> {
    let name = checked(&RESOURCE, resource)?;
    let key = checked(&HOLDER, key)?;
    let scope = checked(&SCOPE, scope)?;
    let policy = operations::got(&name)?.policy;
    check_role(&policy, name.utf8)?;
    Ok(Asked { resource: Resource { name, scope }, key, policy })
}
