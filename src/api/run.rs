//! `idempotent_run`: claim, call the handler, store its answer, in one round trip.

use crate::keys::call::Call;
use crate::keys::handler::Handler;
use crate::keys::keyless::Keyless;
use crate::keys::mode;
use crate::keys::request::{Request, fingerprint, wait};
use crate::keys::run::{Running, call_handler, execute, executed};
use crate::pg::arguments::{Args, Returned};
use crate::pg::snapshot;
use rules::claim::Verdict;

pub fn idempotent_run(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_run()");
    let call = match Call::new(args.text(0), args.text(1), args.text(4)) {
        Ok(call) => Ok(call),
        Err(error) => Err(Keyless::claim(error, args.text(0), args.text(4), args.text(1))?),
    };
    let handler = Handler::find(args.text(3))?;
    let request = args.datum(2);
    handler.check_request(request)?;
    let mut call = match call {
        Ok(call) => call,
        Err(keyless) => {
            let stored = call_handler(&keyless.policy, handler, request)?;
            return executed(&stored, &keyless.claimed(None)?).into_datum(args.function());
        }
    };
    let running = Running::enter(&call)?;
    let records = call.open_to_write()?;
    let asked = Request {
        fingerprint: fingerprint(request, &call.policy),
        lease: None,
        wait: wait(args.duration(5, "wait", 0)?, &call.policy),
        first_sent: args.timestamp(6),
        attempt_id: None,
    };
    let decision = mode::claim(&call, &records, &asked)?;
    if !matches!(decision.verdict, Verdict::Claim { .. } | Verdict::Held) {
        return decision.into_datum(&call, args.bool(7), args.function());
    }
    let answer = execute(&mut call, handler, request, &decision)?;
    drop(running);
    answer.into_datum(args.function())
}
