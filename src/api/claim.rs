//! `idempotent_claim`.

use crate::keys::call::Call;
use crate::keys::keyless::Keyless;
use crate::keys::mode;
use crate::keys::request::{Request, fingerprint, wait};
use crate::pg::arguments::{Args, Returned};
use crate::pg::snapshot;
use rules::request::fingerprint::Fingerprint;

pub fn idempotent_claim(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_claim()");
    let lease = || args.duration(4, "lease", 1);
    let mut call = match Call::new(args.text(0), args.text(1), args.text(3)) {
        Ok(call) => call,
        Err(error) => {
            let keyless = Keyless::claim(error, args.text(0), args.text(3), args.text(1))?;
            return keyless.claimed(lease()?)?.into_datum(args.function());
        }
    };
    let records = call.open_to_write()?;
    let request = Request {
        fingerprint: match args.bytea(8) {
            Some(bytes) => Some(Fingerprint::of_bytes(bytes)),
            None => fingerprint(args.datum(2), &call.policy),
        },
        lease: lease()?.or(call.policy.lease),
        wait: wait(args.duration(5, "wait", 0)?, &call.policy),
        first_sent: args.timestamp(6),
        attempt_id: args.uuid(7),
    };
    let decision = mode::claim(&call, &records, &request)?;
    decision.into_datum(&call, args.bool(9), args.function())
}
