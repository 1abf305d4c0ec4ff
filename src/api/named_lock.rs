//! `idempotent_lock`, `idempotent_unlock`: locks that outlive transactions and connections.

use crate::api::consumer::checked;
use crate::pg::arguments::{Args, Returned};
use crate::pg::datum::text::Text;
use crate::pg::snapshot;
use crate::tables::locks::{Resource, acquire, release};
use pgrx::pg_sys::Datum;
use rules::error::{Code, Error, Result};
use rules::names::{HOLDER, RESOURCE, SCOPE};

pub fn idempotent_lock(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_lock()");
    let (resource, key) = asked(args)?;
    let ttl = args.duration(2, "ttl", 1)?.ok_or_else(|| {
        Error::new(Code::InvalidParameter, "ttl must not be null")
            .detail("A lock ends by itself, should its holder never give it back.")
            .hint("Pass how long it may take, such as ttl => '10 minutes'.")
    })?;
    let grant = acquire(&resource, &key, ttl)?;
    args.return_row(&[
        Some(Datum::from(grant.acquired)),
        grant.fence.map(Datum::from),
        Some(grant.holder),
        Some(Datum::from(grant.expires_at)),
    ])
}

pub fn idempotent_unlock(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_unlock()");
    let (resource, key) = asked(args)?;
    let fence = args.int8(2).ok_or_else(|| {
        Error::new(Code::InvalidParameter, "fence must not be null")
            .detail("It tells the lock from one that was taken later with the same key.")
            .hint("Pass the fence that idempotent_lock returned: fence => ...")
    })?;
    Ok(Some(Datum::from(release(&resource, &key, fence)?)))
}

fn asked(args: &Args) -> Result<(Resource<'_>, Text<'_>)> {
    let name = checked(&RESOURCE, args.text(0))?;
    let key = checked(&HOLDER, args.text(1))?;
    let scope = checked(&SCOPE, args.text(3))?;
    Ok((Resource { name, scope }, key))
}
