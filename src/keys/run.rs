//! `idempotent_run`: claim, call the handler, store its answer, in one round trip.

use crate::keys::answer::Answer;
use crate::keys::call::Call;
use crate::keys::claim::{self, Decision, Request, replay};
use crate::keys::finish::{Stored, store};
use crate::keys::handler::Handler;
use crate::keys::observe::Keyless;
use crate::pg::arguments::{Args, Returned};
use crate::pg::datum::encoding::to_utf8;
use crate::pg::datum::jsonb;
use crate::pg::error::Kept;
use crate::pg::{memory, snapshot};
use crate::session::claims::{self, Status};
use crate::session::{counts, observed};
use crate::stats::Counter;
use pgrx::pg_sys::Datum;
use rules::claim::Verdict;
use rules::error::{Code, Error, Result};
use rules::identity::RecordId;
use rules::policy::{Mode, Policy};
use rules::record::State;
use serde::Serialize;
use std::cell::RefCell;
use std::ffi::CStr;

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
        fingerprint: claim::fingerprint(request, &call.policy),
        lease: None,
        wait: claim::wait(args.duration(5, "wait", 0)?, &call.policy),
        first_sent: args.timestamp(6),
        attempt_id: None,
    };
    let decision = claim::decide(&call, &records, &asked)?;
    if !matches!(decision.verdict, Verdict::Claim { .. } | Verdict::Held) {
        return decision.into_datum(&call, args.bool(7), args.function());
    }
    let answer = execute(&mut call, handler, request, &decision)?;
    drop(running);
    answer.into_datum(args.function())
}

fn execute(
    call: &mut Call<'_>,
    handler: Handler,
    request: Option<Datum>,
    decision: &Decision,
) -> Result<Answer> {
    let stored = call_handler(&call.policy, handler, request)?;
    counts::count(&call.tally, Counter::Executed, 1);
    let executed = executed(&stored, &decision.answer);
    match claims::get(call.owner.id).map(|claim| claim.status) {
        // Observed beside a claim that is another call's: what is stored, or will be, is its answer.
        status if decision.passed && status != Some(Status::Passed) => {
            observed::forget(call.owner.id, executed.fence);
            Ok(executed)
        }
        // The handler stored an answer of its own: that is the one.
        Some(Status::Finished) => {
            let found = call.open_to_read()?.find(&call.owner)?;
            Ok(found.map_or(executed, |found| Answer {
                outcome: "executed",
                ..replay(&found, found.record.state == State::Failed)
            }))
        }
        // The handler gave the key back, or used it for another request: nothing is to be stored.
        Some(Status::Released | Status::Ambiguous) => Ok(executed),
        Some(Status::Open | Status::Passed) | None => {
            let kept = store(call, decision.answer.fence, &stored)?;
            let expires_at = Some(kept.expires_at);
            Ok(Answer { evicted: Some(kept.evicted), expires_at, ..executed })
        }
    }
}

fn executed(stored: &Stored, claimed: &Answer) -> Answer {
    Answer {
        outcome: "executed",
        fence: claimed.fence,
        attempt: claimed.attempt,
        failed: Some(stored.failed),
        response: stored.response,
        ..Answer::default()
    }
}

fn call_handler(policy: &Policy, handler: Handler, request: Option<Datum>) -> Result<Stored> {
    let completed = |response| Stored { response, ..Stored::default() };
    let stored_failures = &policy.store_failures;
    if stored_failures.is_empty() {
        return Ok(completed(handler.call(request).unwrap_or_else(|error| error.resume())));
    }
    match handler.call_undoing_error(request) {
        Ok(response) => Ok(completed(response)),
        Err(error) if stored_failures.matches(&error.sqlstate()) => {
            Ok(Stored { failed: true, response: failure(&error)?, ..Stored::default() })
        }
        Err(error) => error.resume(),
    }
}

/// What is stored of an error.
#[derive(Serialize)]
struct Failure<'a> {
    sqlstate: &'a str,
    message: &'a str,
}

fn failure(error: &Kept) -> Result<Option<Datum>> {
    // SAFETY: error data copied by Postgres; its message is null or NUL-terminated.
    let message = unsafe {
        let message = (*error.0).message;
        if message.is_null() { &[] } else { to_utf8(CStr::from_ptr(message).to_bytes()) }
    };
    // Written as JSON and copied: a character may take six, and each copy room to grow.
    memory::expect(message.len().saturating_mul(16))?;
    let message = String::from_utf8_lossy(message);
    jsonb::of(&Failure { sqlstate: &error.sqlstate(), message: &message })
}

thread_local! {
    /// Keys whose handlers are running in this backend, innermost last.
    static RUNNING: RefCell<Vec<RecordId>> = const { RefCell::new(Vec::new()) };
}

/// A handler that runs its own key would wait for itself, or do the work twice.
struct Running;

impl Running {
    fn enter(call: &Call<'_>) -> Result<Self> {
        let id = call.owner.id;
        let is_binding = call.policy.mode == Mode::Enforce;
        if is_binding && RUNNING.with_borrow(|running| running.contains(&id)) {
            return Err(Error::new(Code::ObjectInUse, "the key's handler is running")
                .detail(format!(
                    "A handler called idempotent_run for its own key: {}.",
                    call.owner.identity.describe()
                ))
                .hint("Do the work in the handler itself, or run another key."));
        }
        RUNNING.with_borrow_mut(|running| running.push(id));
        Ok(Self)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.with_borrow_mut(Vec::pop);
    }
}
