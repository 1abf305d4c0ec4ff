//! `idempotent_run`: claim, call the handler, store its answer, in one round trip.

use crate::keys::call::Call;
use crate::keys::decision::Opened;
use crate::keys::handler::Handler;
use crate::keys::keyless::Keyless;
use crate::keys::mode;
use crate::keys::request::{Document, Request, fingerprint, limit, wait};
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
    let limit = limit(args.duration(RUN.wait, 0).ok().flatten());
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
    let given = args.duration(RUN.wait, 0)?;
    limit.set(wait(given, &call.policy));
    let opened = mode::open(&mut call, None, args.is_set(RUN.strict))?;
    // As the settings are now that they cannot change any more.
    let wait = wait(given, &call.policy);
    limit.set(wait);
    let asked = Request {
        fingerprint: fingerprint(request, &call.policy),
        document: request.map(Document::Jsonb),
        lease: None,
        wait,
        first_sent: args.get(RUN.first_sent),
        attempt_id: None,
    };
    let decision = match opened {
        Opened::Records(records) => mode::claim(&call, &records, &asked)?,
        Opened::InTheWay(decision) => decision,
    };
    if !matches!(decision.verdict, Verdict::Claim { .. } | Verdict::Held) {
        return decision.into_datum(&call, args.is_set(RUN.strict), args);
    }
    // What has begun is finished, however long that takes.
    drop(limit);
    let answer = execute(&mut call, &handler, request, &decision)?;
    drop(running);
    answer.into_datum(args)
}
