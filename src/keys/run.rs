//! What `idempotent_run` does between the claim and the answer: call the handler, keep its failure.

use crate::keys::answer::Answer;
use crate::keys::call::Call;
use crate::keys::decision::Decision;
use crate::keys::handler::Handler;
use crate::keys::mode;
use crate::keys::observe::{self, Left};
use crate::keys::stored::Stored;
use crate::pg::datum::encoding::to_utf8;
use crate::pg::datum::jsonb;
use crate::pg::error::Kept;
use crate::pg::{clock, memory};
use crate::session::counts;
use crate::stats::Counter;
use pgrx::pg_sys::Datum;
use rules::error::Result;
use rules::outcome::Outcome;
use rules::policy::Policy;
use serde::Serialize;
use std::ffi::CStr;

/// Calls the handler, and stores its answer.
pub fn execute(
    call: &mut Call<'_>,
    handler: &Handler,
    request: Option<Datum>,
    decision: &Decision,
) -> Result<Answer> {
    call.has_begun();
    let stored = call_handler(&call.policy, handler, request)?;
    counts::count(&call.tally, Counter::Executed, 1);
    let executed = executed(&stored, &decision.answer);
    match observe::left(call, decision.let_through, executed.fence) {
        Left::Nothing => Ok(executed),
        Left::Stored => {
            let found = call.open_to_read()?.find(&call.owner)?;
            Ok(found.map_or(executed, |found| Answer {
                outcome: Outcome::Executed,
                ..Answer::replay(&found, clock::now())
            }))
        }
        Left::ToStore => {
            let kept = mode::store(call, decision.answer.fence, &stored)?;
            let expires_at = Some(kept.expires_at);
            Ok(Answer { evicted: Some(kept.evicted), expires_at, ..executed })
        }
    }
}

pub fn executed(stored: &Stored, claimed: &Answer) -> Answer {
    Answer {
        fence: claimed.fence,
        attempt: claimed.attempt,
        failed: Some(stored.failed),
        response: stored.response,
        ..Answer::of(Outcome::Executed)
    }
}

pub fn call_handler(policy: &Policy, handler: &Handler, request: Option<Datum>) -> Result<Stored> {
    let completed = |response| Stored { response, ..Stored::default() };
    let stored_failures = &policy.store_failures;
    if stored_failures.is_empty() {
        return Ok(completed(handler.call(request)?.unwrap_or_else(|error| error.resume())));
    }
    match handler.call_judging_constraints(request)? {
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

/// A final failure, as it is stored.
pub fn failure(error: &Kept) -> Result<Option<Datum>> {
    // SAFETY: a `Kept` is made from CopyErrorData alone, whose message is null or a NUL-terminated copy that
    // outlives `error`.
    let message = unsafe {
        let message = (*error.0).message;
        if message.is_null() { &[] } else { to_utf8(CStr::from_ptr(message).to_bytes()) }
    };
    // Written as JSON and copied: a character may take six, and each copy room to grow.
    memory::expect(message.len().saturating_mul(16))?;
    let message = String::from_utf8_lossy(message);
    jsonb::of(&Failure { sqlstate: &error.sqlstate(), message: &message })
}
