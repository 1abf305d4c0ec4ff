//! `idempotent_claim`.

use crate::keys::call::Call;
use crate::keys::keyless::Keyless;
use crate::keys::mode;
use crate::keys::request::{Document, Request, fingerprint, wait};
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
    let records = call.open_to_write()?;
    let request = Request {
        fingerprint: match args.get(CLAIM.fingerprint) {
            Some(bytes) => Some(Fingerprint::of_bytes(bytes)),
            None => fingerprint(args.get(CLAIM.request), &call.policy),
        },
        document: args
            .get(CLAIM.request)
            .filter(|_| args.get(CLAIM.fingerprint).is_none())
            .map(Document::Jsonb),
        lease: call.allowed_lease(lease()?)?.or(call.policy.lease),
        wait: wait(args.duration(CLAIM.wait, 0)?, &call.policy),
        first_sent: args.get(CLAIM.first_sent),
        attempt_id: args.get(CLAIM.attempt_id),
    };
    let decision = mode::claim(&call, &records, &request)?;
    decision.into_datum(&call, args.is_set(CLAIM.strict), args)
}
