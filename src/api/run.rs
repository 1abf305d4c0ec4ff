//! `idempotent_run`: claim, call the handler, store its answer, in one round trip.

use crate::keys::call::Call;
use crate::keys::handler::Handler;
use crate::keys::keyless::Keyless;
use crate::keys::mode;
use crate::keys::request::{Document, Request, fingerprint, wait};
use crate::keys::run::{call_handler, execute, executed};
use crate::keys::running::{For, Running};
use crate::pg::arguments::{Args, Returned};
use crate::pg::declaration::arguments;
use crate::pg::snapshot;
use rules::claim::Verdict;

arguments! {
    RUN: Run = "idempotent_run" {
        operation: Text, key: Text, request: Jsonb, handler: Text, scope: Text, wait: Interval, first_sent: TimestampTz, strict: Bool,
    }
}

pub fn idempotent_run(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_run()");
    let call = match Call::new(args.get(RUN.operation), args.get(RUN.key), args.get(RUN.scope)) {
        Ok(call) => Ok(call),
        Err(error) => Err(Keyless::claim(
            error,
            args.get(RUN.operation),
            args.get(RUN.scope),
            args.get(RUN.key),
        )?),
    };
    let handler = Handler::find(args.get(RUN.handler))?;
    let request = args.get(RUN.request);
    handler.check_request(request)?;
    let mut call = match call {
        Ok(call) => call,
        Err(keyless) => {
            let stored = call_handler(&keyless.policy, &handler, request)?;
            return executed(&stored, &keyless.claimed(None)?).into_datum(args);
        }
    };
    let refused = mode::is_binding(&call.policy);
    let running = Running::enter(For::Key, call.owner.id, &call.owner.identity, refused)?;
    let records = call.open_to_write()?;
    let asked = Request {
        fingerprint: fingerprint(request, &call.policy),
        document: request.map(Document::Jsonb),
        lease: None,
        wait: wait(args.duration(RUN.wait, 0)?, &call.policy),
        first_sent: args.get(RUN.first_sent),
        attempt_id: None,
    };
    let decision = mode::claim(&call, &records, &asked)?;
    if !matches!(decision.verdict, Verdict::Claim { .. } | Verdict::Held) {
        return decision.into_datum(&call, args.is_set(RUN.strict), args);
    }
    let answer = execute(&mut call, &handler, request, &decision)?;
    drop(running);
    answer.into_datum(args)
}
