//! A step of a saga: find what is next, call its handler with the caller's rights, and write what it
//! did, in one call, so that no caller can write what no handler did.

use crate::keys::call::{Call, kept};
use crate::keys::handler::Handler;
use crate::keys::request::{Document, fingerprint, to_compare};
use crate::keys::run::failure;
use crate::keys::waiting::Waiting;
use crate::pg::datum::text::Text;
use crate::pg::error::Kept;
use crate::pg::{clock, lock};
use crate::settings;
use crate::tables::catalog;
use crate::tables::hold::Patience;
use crate::tables::sagas::{Done, SagaRow, Sagas};
use pgrx::pg_sys::Datum;
use rules::dating::Age;
use rules::error::{Code, Error, Result};
use rules::outcome::Outcome;
use rules::retention::answer_expires;
use rules::saga::{Did, State, Verdict, done, judge};
use rules::store_failures::StoreFailures;
use rules::{Micros, Timestamp};

/// What came of a call.
#[derive(Default)]
pub struct Stepped {
    /// `None`: a step is done, and another is next.
    pub outcome: Option<Outcome>,
    pub failed: Option<bool>,
    pub answers: Option<Datum>,
    pub failure: Option<Datum>,
}

impl Stepped {
    fn of(outcome: Outcome) -> Self {
        Self { outcome: Some(outcome), ..Self::default() }
    }
}

/// Does the next step, or answers for a saga that has none.
pub fn step(call: &Call<'_>, request: Option<Datum>, wait: Micros) -> Result<Stepped> {
    let sagas = Sagas::open()?;
    catalog::refresh();
    call.check_owner()?;
    let asked = fingerprint(request, &call.policy);
    let verdict = |found: Option<&SagaRow>| {
        let now = clock::now();
        let stored = found.and_then(|found| found.known.fingerprint);
        let asked = to_compare(asked, request.map(Document::Jsonb), stored, &call.policy);
        judge(found.map(|found| &found.known), asked, age(call, now), now)
    };
    // Another request is told so before it waits for anything.
    if verdict(sagas.find(&call.owner)?.as_ref()) == Verdict::Mismatch {
        return Ok(Stepped::of(Outcome::Mismatch));
    }
    let waiting = Waiting::for_up_to(wait, &call.tally);
    let Some(held) = waiting.lock(lock::saga_tag(call.owner.id)) else {
        return Ok(Stepped::of(Outcome::InProgress));
    };
    held.keep();
    let found = sagas.find_locked(&call.owner)?;
    match (verdict(found.as_ref()), found) {
        (Verdict::GoOn, Some(found)) => go_on(call, &sagas, &found),
        (Verdict::Replay { failed }, Some(SagaRow { answers, failure, .. })) => {
            Ok(Stepped { failed: Some(failed), answers, failure, ..Stepped::of(Outcome::Replay) })
        }
        (Verdict::Mismatch, _) => Ok(Stepped::of(Outcome::Mismatch)),
        (Verdict::Expired, _) => Ok(Stepped::of(Outcome::Expired)),
        (Verdict::Start | Verdict::GoOn | Verdict::Replay { .. }, expired) => {
            if expired.is_some() {
                sagas.delete(&call.owner)?;
            }
            if !sagas.start(&call.owner, request, asked, clock::now())? {
                return Err(no_such_saga(call));
            }
            let started = sagas.find_locked(&call.owner)?.ok_or_else(|| no_such_saga(call))?;
            go_on(call, &sagas, &started)
        }
    }
}

/// How old the key says it is. Where a saga stands is logged, so that nothing of it is ever lost.
fn age(call: &Call<'_>, now: Timestamp) -> Age {
    let dates = call.dates(None);
    dates.age(now, &kept(&call.policy, Timestamp::MIN))
}

fn go_on(call: &Call<'_>, sagas: &Sagas, found: &SagaRow) -> Result<Stepped> {
    // SAFETY: the column of the handler is a text of FIND, and `spi::row` has copied it into the memory context
    // of the call.
    let named = found.handler.map(|name| unsafe { Text::from_datum(name) });
    let handler = Handler::find(named)?;
    let (did, answer, failure) = match handler.call_judging_constraints(found.argument)? {
        Ok(answer) => (Did::Answered, answer, None),
        Err(error) if is_final(call, found, &error)? => (Did::Failed, None, failure(&error)?),
        Err(error) => error.resume(),
    };
    let (from, to) = (found.at, done(found.at, did, &found.can_undo));
    let at = clock::now();
    let failed = to.state == State::Compensated;
    let (dates, skew) = (call.dates(None), settings::clock_skew());
    let expires = answer_expires(&call.policy, failed, None, dates, at, skew);
    let expires_at = to.state.is_final().then_some(expires);
    let done = Done { from, to, step: found.step, answer, failure, at, expires_at };
    let (answers, failure) = sagas.write(&call.owner, &done)?;
    if !to.state.is_final() {
        return Ok(Stepped::default());
    }
    Ok(Stepped { failed: Some(failed), answers, failure, ..Stepped::of(Outcome::Executed) })
}

/// Whether a step that failed so is not tried again. A compensation always is.
fn is_final(call: &Call<'_>, found: &SagaRow, error: &Kept) -> Result<bool> {
    let sqlstate = error.sqlstate();
    Ok(found.at.state == State::Running
        && (StoreFailures::parse(&found.last)?.matches(&sqlstate)
            || call.policy.store_failures.matches(&sqlstate)))
}

fn no_such_saga(call: &Call<'_>) -> Error {
    let name = String::from_utf8_lossy(call.owner.identity.operation()).into_owned();
    Error::new(Code::UndefinedObject, "no such saga")
        .detail(format!("No saga \"{name}\" is defined."))
        .hint("Define it: SELECT idempotent_saga(name, steps).")
}
