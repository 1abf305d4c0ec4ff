//! What an administrator decides about a saga that is not finished: settle what is next, give up, forget.

use crate::keys::call::Call;
use crate::keys::request::wait;
use crate::keys::saga::{Came, Stepped, hold, locked, started, write};
use crate::keys::waiting::Waiting;
use crate::pg::datum::jsonb;
use crate::pg::datum::text::Text;
use crate::tables::sagas::{SagaRow, Sagas};
use pgrx::pg_sys::Datum;
use rules::error::{Code, Error, Result};
use rules::saga::{Did, Settlement, State};
use serde::Serialize;

/// What is stored of a failure that no handler has raised.
#[derive(Serialize)]
struct Failure {
    sqlstate: &'static str,
    message: &'static str,
}

/// Postgres' query_canceled.
const CANCELED: &str = "57014";

/// Says what became of the step, or of the compensation, that is next.
///
/// # Errors
/// ID001 while another session works on the saga; 42704 without one; ID010 if another node answers for its owner;
/// 55000 if another step is next, or the settlement is none of what is next.
pub fn settle(
    call: &Call<'_>,
    step: &Text<'_>,
    settlement: Settlement,
    answer: Option<Datum>,
) -> Result<Stepped> {
    let (sagas, mut waiting) = take(call)?;
    let found = started(call, &sagas, &mut waiting)?.ok_or_else(|| held_by_another(call))?;
    let is_next = found.next().is_some_and(|name| name.server == step.server);
    let Some(did) = settlement.did(found.at.state).filter(|_| is_next) else {
        return Err(not_there(call, &found));
    };
    let message = "settled as failed by an administrator";
    let failure = (settlement == Settlement::Failed).then(|| failure(message)).transpose()?;
    write(call, &sagas, &found, &Came { did, answer, failure: failure.flatten() })
}

/// Fails the step that is next for good, so that the steps before it are undone.
///
/// # Errors
/// ID001 while another session works on the saga; 42704 without one; ID010 if another node answers for its owner;
/// 55000 if it is not running.
pub fn abandon(call: &Call<'_>) -> Result<(Stepped, SagaRow)> {
    let (sagas, mut waiting) = take(call)?;
    let found = started(call, &sagas, &mut waiting)?.ok_or_else(|| held_by_another(call))?;
    if found.at.state != State::Running {
        return Err(not_there(call, &found));
    }
    let failure = failure("given up by an administrator")?;
    let stepped = write(call, &sagas, &found, &Came { did: Did::Failed, answer: None, failure })?;
    Ok((stepped, found))
}

/// Deletes what is known of a saga; `None` if there is nothing. One that is not finished is only forgotten
/// if that is wanted.
///
/// # Errors
/// ID001 while another session works on it; 55000 if it is not finished, and `unfinished` is not set.
pub fn forget(call: &Call<'_>, unfinished: bool) -> Result<Option<SagaRow>> {
    let (sagas, mut waiting) = take(call)?;
    let found = locked(call, &sagas, &mut waiting)?.ok_or_else(|| held_by_another(call))?;
    let Some(found) = found else { return Ok(None) };
    if !unfinished && !found.at.state.is_final() {
        return Err(Error::new(Code::ObjectNotReady, "the saga is not finished")
            .detail(format!("{} Its steps would neither be done nor undone.", stands(&found)))
            .hint(format!(
                "Give it up and let it be undone: {}. If there is nothing to undo, pass unfinished => true.",
                call.owner.identity.call("idempotent_saga_abandon", "")
            )));
    }
    sagas.delete(&call.owner)?;
    Ok(Some(found))
}

/// Holds the saga until the transaction ends.
fn take<'a>(call: &'a Call<'_>) -> Result<(Sagas, Waiting<'a>)> {
    let sagas = call.open_sagas()?;
    let waiting = Waiting::for_up_to(wait(None, &call.policy), &call.tally);
    if hold(call, &waiting) {
        return Ok((sagas, waiting));
    }
    Err(held_by_another(call))
}

fn held_by_another(call: &Call<'_>) -> Error {
    Error::new(Code::InProgress, "another session works on the saga")
        .detail(format!("A transaction does a step of {}.", call.owner.identity.describe()))
        .hint(format!("Wait until it has ended. Then see where the saga stands: {}.", see(call)))
}

fn failure(message: &'static str) -> Result<Option<Datum>> {
    jsonb::of(&Failure { sqlstate: CANCELED, message })
}

fn not_there(call: &Call<'_>, found: &SagaRow) -> Error {
    Error::new(Code::ObjectNotReady, "the saga is not at such a step")
        .detail(stands(found))
        .hint(format!("See where it stands: {}.", see(call)))
}

/// Where it stands, for DETAIL.
fn stands(found: &SagaRow) -> String {
    let step = found.next().map(|name| String::from_utf8_lossy(name.utf8).into_owned());
    match (found.at.state, step) {
        (State::Running, Some(step)) => format!("Its step \"{step}\" is next."),
        (State::Compensating, Some(step)) => {
            format!("The compensation of its step \"{step}\" is next.")
        }
        (state, _) => format!("It is {}.", state.name()),
    }
}

fn see(call: &Call<'_>) -> String {
    call.owner.identity.call("idempotent_saga_explain", "")
}
