//! Sagas: the step that `idempotent_saga_run` loops over, and the checks of a definition.

use crate::keys::call::Call;
use crate::keys::request;
use crate::keys::saga::{Stepped, step};
use crate::pg::arguments::{Args, Returned};
use crate::pg::datum::make::text;
use crate::pg::datum::text::Text as TextValue;
use crate::pg::declaration::arguments;
use crate::pg::snapshot;
use crate::session::counts;
use crate::stats::Counter;
use pgrx::pg_sys::Datum;
use rules::error::Result;
use rules::names;
use rules::outcome::Outcome;
use rules::saga::State;
use rules::store_failures::StoreFailures;

arguments! {
    STEP: Step = "idempotent_saga_step" { name: Text, key: Text, request: Jsonb, scope: Text, wait: Interval }
    CHECK_NAME: CheckName = "idempotent_check_saga_name" { name: Text }
    CHECK_STEP: CheckStep = "idempotent_check_saga_step" { name: Text, number: Int8, finals: Texts }
}

pub fn idempotent_saga_step(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_saga_step()");
    let limit = request::limit(args.duration(STEP.wait, 0).ok().flatten());
    let call = call(args.get(STEP.name), args.get(STEP.key), args.get(STEP.scope))?;
    let wait = request::wait(args.duration(STEP.wait, 0)?, &call.policy);
    limit.set(wait);
    let stepped = step(&call, args.get(STEP.request), wait)?;
    returned(args, &call, &stepped)
}

/// A call on a saga.
///
/// # Errors
/// Those of `Call::of_what_is_there`, with the name called that of a saga.
pub fn call<'a>(
    name: Option<TextValue<'a>>,
    key: Option<TextValue<'a>>,
    scope: Option<TextValue<'a>>,
) -> Result<Call<'a>> {
    names::check(&names::SAGA, name.map(|name| name.utf8))?;
    Call::of_what_is_there(name, key, scope)
}

/// The row of a call that does a step.
pub fn returned(args: &Args, call: &Call<'_>, stepped: &Stepped) -> Returned {
    match stepped.outcome {
        Some(Outcome::Executed) => counts::count(&call.tally, Counter::Executed, 1),
        Some(outcome) => call.count_answer(outcome),
        None => {}
    }
    args.return_row(&[
        Some(Datum::from(stepped.outcome.is_none())),
        stepped.outcome.map(Outcome::name).map(text),
        stepped.failed.map(Datum::from),
        stepped.answers,
        stepped.failure,
        stepped.state.map(State::name).map(text),
        stepped.next_step,
    ])
}

pub fn check_saga_name(args: &Args) -> Returned {
    names::check(&names::SAGA, args.get(CHECK_NAME.name).map(|name| name.utf8))?;
    Ok(Some(Datum::from(0)))
}

pub fn check_saga_step(args: &Args) -> Returned {
    names::check(&names::STEP, args.get(CHECK_STEP.name).map(|name| name.utf8))?;
    let list = format!("final of step {}", args.get(CHECK_STEP.number).unwrap_or(0));
    let hint = "Name SQLSTATEs, or classes of them, by which the handler refuses for good, such as \
        \"final\": [\"P0001\", \"23\"].";
    let entries = args.texts(CHECK_STEP.finals)?.unwrap_or_default();
    let entries = entries.iter().map(|entry| entry.map_or(&[][..], |entry| entry.utf8));
    StoreFailures::parse_as(&list, hint, entries)?;
    Ok(Some(Datum::from(0)))
}
