//! Keys and what follows from them: new ones, derived ones, and the slot and shard of one.

use crate::pg::arguments::{Args, Returned};
use crate::pg::datum::text::Text;
use crate::pg::datum::{jsonb, make};
use crate::pg::declaration::arguments;
use crate::pg::{clock, random};
use pgrx::pg_sys::Datum;
use rules::dating;
use rules::error::{Code, Error, Result};
use rules::identity::Identity;
use rules::names::{self, KEY, SCOPE};
use rules::request::exclude::Exclusions;
use rules::slot::{self, SLOTS, shard};

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
    SLOT: Slot = "idempotent_slot" { key: Text, scope: Text }
    SHARD: Shard = "idempotent_shard" { key: Text, shards: Int4, scope: Text }
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

pub fn idempotent_slot(args: &Args) -> Returned {
    let slot = slot(args.get(SLOT.key), args.get(SLOT.scope))?;
    Ok(Some(Datum::from(i32::from(slot))))
}

pub fn idempotent_shard(args: &Args) -> Returned {
    let slot = slot(args.get(SHARD.key), args.get(SHARD.scope))?;
    let shards = args.get(SHARD.shards).and_then(|shards| u32::try_from(shards).ok());
    let shards =
        shards.filter(|shards| (1..=u32::from(SLOTS)).contains(shards)).ok_or_else(|| {
            Error::new(Code::InvalidParameter, "shards must be a number from 1 to 16384")
                .detail("A shard has one slot at least, and there are 16384.")
                .hint("Pass the number of shards, e.g. shards => 16.")
        })?;
    Ok(Some(Datum::from(shard(slot, shards))))
}

fn slot(key: Option<Text<'_>>, scope: Option<Text<'_>>) -> Result<u16> {
    let key = names::check(&KEY, key.map(|key| key.utf8))?;
    let scope = names::check(&SCOPE, scope.map(|scope| scope.utf8))?;
    Ok(slot::of(slot::owner(scope, key)))
}

fn identity<'a>(
    operation: Option<Text<'a>>,
    key: Option<Text<'a>>,
    scope: Option<Text<'a>>,
) -> Result<Identity<'a>> {
    let utf8 = |text: Option<Text<'a>>| text.map(|text| text.utf8);
    Identity::new(utf8(operation), utf8(scope), utf8(key))
}
