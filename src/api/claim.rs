//! `idempotent_claim`.

use crate::keys::call::Call;
use crate::keys::decision::Opened;
use crate::keys::keyless::Keyless;
use crate::keys::mode;
use crate::keys::request::{Document, Request, fingerprint, limit, wait};
use crate::pg::arguments::{Args, Returned};
use crate::pg::declaration::arguments;
use crate::pg::snapshot;
use rules::request::fingerprint::Fingerprint;

arguments! {
    CLAIM: Claim = "idempotent_claim" {
        operation: Text, key: Text, request: Jsonb, scope: Text, lease: Interval, wait: Interval, first_sent: TimestampTz, attempt_id: Uuid, fingerprint: Bytes, strict: Bool,
    }
}

pub fn idempotent_claim(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_claim()");
    let limit = limit(args.duration(CLAIM.wait, 0).ok().flatten());
    let lease = || args.duration(CLAIM.lease, 1);
    let mut call =
        match Call::new(args.get(CLAIM.operation), args.get(CLAIM.key), args.get(CLAIM.scope)) {
            Ok(call) => call,
            Err(error) => {
                let keyless = Keyless::claim(
                    error,
                    args.get(CLAIM.operation),
                    args.get(CLAIM.scope),
                    args.get(CLAIM.key),
                )?;
                return keyless.claimed(lease()?)?.into_datum(args);
            }
        };
    let given = args.duration(CLAIM.wait, 0)?;
    limit.set(wait(given, &call.policy));
    let strict = args.is_set(CLAIM.strict);
    let lease = lease()?;
    let records = match mode::open(&mut call, lease, strict)? {
        Opened::Records(records) => records,
        Opened::InTheWay(decision) => return decision.into_datum(&call, strict, args),
    };
    // As the settings are now that they cannot change any more.
    let wait = wait(given, &call.policy);
    limit.set(wait);
    let request = Request {
        fingerprint: match args.get(CLAIM.fingerprint) {
            Some(bytes) => Some(Fingerprint::of_bytes(bytes)),
            None => fingerprint(args.get(CLAIM.request), &call.policy),
        },
        document: args
            .get(CLAIM.request)
            .filter(|_| args.get(CLAIM.fingerprint).is_none())
            .map(Document::Jsonb),
        lease: call.allowed_lease(lease)?.or(call.policy.lease),
        wait,
        first_sent: args.get(CLAIM.first_sent),
        attempt_id: args.get(CLAIM.attempt_id),
    };
    let decision = mode::claim(&call, &records, &request)?;
    decision.into_datum(&call, strict, args)
}
