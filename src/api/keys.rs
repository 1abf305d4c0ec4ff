//! Keys and what follows from them: new ones, derived ones, and the shard of one.

use crate::pg::arguments::{Args, Returned};
use crate::pg::datum::text::Text;
use crate::pg::datum::{jsonb, make};
use crate::pg::declaration::arguments;
use crate::pg::{clock, random};
use pgrx::pg_sys::Datum;
use rules::dating;
use rules::error::{Code, Error, Result};
use rules::identity::Identity;
use rules::request::exclude::Exclusions;

arguments! {
    NEW_KEY: NewKey = "idempotent_new_key" {
        at: TimestampTz,
    }
    REQUEST_KEY: RequestKey = "idempotent_request_key" {
        request: Jsonb,
    }
    DERIVE_KEY: DeriveKey = "idempotent_derive_key" {
        operation: Text, key: Text, label: Text, scope: Text,
    }
    SHARD: Shard = "idempotent_shard" {
        operation: Text, key: Text, shards: Int4, scope: Text,
    }
}

/// Microseconds from 1970 to 2000, the two epochs.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

pub fn idempotent_new_key(args: &Args) -> Returned {
    let at = args.get(NEW_KEY.at).unwrap_or_else(clock::now);
    let key = dating::new_key(at.saturating_add(POSTGRES_EPOCH), random::bytes()?);
    Ok(Some(make::text(&key)))
}

pub fn idempotent_request_key(args: &Args) -> Returned {
    // SAFETY: the kind `Jsonb` of the argument stands for jsonb.
    let key = args.get(REQUEST_KEY.request).map(|request| unsafe {
        let digest = jsonb::canonical_digest(request, &Exclusions::default());
        digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    });
    Ok(key.map(|key| make::text(&key)))
}

pub fn idempotent_derive_key(args: &Args) -> Returned {
    let (operation, key, scope) =
        (args.get(DERIVE_KEY.operation), args.get(DERIVE_KEY.key), args.get(DERIVE_KEY.scope));
    let identity = identity(operation, key, scope)?;
    let label =
        args.get(DERIVE_KEY.label).filter(|label| !label.utf8.is_empty()).ok_or_else(|| {
            Error::new(Code::InvalidParameter, "label must not be null or empty")
                .hint("Name the downstream call, e.g. 'card-charge'.")
        })?;
    Ok(Some(make::uuid(identity.record_id().derive(label.utf8))))
}

pub fn idempotent_shard(args: &Args) -> Returned {
    let (operation, key, scope) =
        (args.get(SHARD.operation), args.get(SHARD.key), args.get(SHARD.scope));
    let identity = identity(operation, key, scope)?;
    let shards = args.get(SHARD.shards).and_then(|shards| u32::try_from(shards).ok());
    let shards = shards.filter(|shards| *shards > 0).ok_or_else(|| {
        Error::new(Code::InvalidParameter, "shards must be at least 1")
            .hint("Pass the number of shards, e.g. shards => 16.")
    })?;
    Ok(Some(Datum::from(identity.record_id().shard(shards))))
}

fn identity<'a>(
    operation: Option<Text<'a>>,
    key: Option<Text<'a>>,
    scope: Option<Text<'a>>,
) -> Result<Identity<'a>> {
    let utf8 = |text: Option<Text<'a>>| text.map(|text| text.utf8);
    Identity::new(utf8(operation), utf8(scope), utf8(key))
}
