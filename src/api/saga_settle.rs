//! Sagas for administrators: look, go on, give up, settle, forget.

use crate::api::saga::{call, returned};
use crate::keys::call::Call;
use crate::keys::request;
use crate::keys::saga::{Stepped, resume};
use crate::keys::saga_settle::{abandon, forget, settle};
use crate::pg::arguments::{Args, Returned};
use crate::pg::datum::make::text;
use crate::pg::declaration::arguments;
use crate::pg::pass_on::pass_on_with;
use crate::pg::snapshot;
use crate::tables::audit::{self, Deed};
use crate::tables::sagas::SagaRow;
use pgrx::pg_sys::Datum;
use rules::error::{Code, Error, Result};
use rules::names::{self, STEP};
use rules::saga::{Settlement, State};

arguments! {
    EXPLAIN: Explain = "idempotent_saga_explain" { name: Text, key: Text, scope: Text }
    RESUME: Resume = "idempotent_saga_resume" { name: Text, key: Text, scope: Text, wait: Interval }
    ABANDON: Abandon = "idempotent_saga_abandon" { name: Text, key: Text, scope: Text }
    SETTLE: Settle = "idempotent_saga_settle" {
        name: Text, key: Text, step: Text, verdict: Text, answer: Jsonb, scope: Text,
    }
    FORGET: Forget = "idempotent_saga_forget" { name: Text, key: Text, scope: Text, unfinished: Bool }
}

pub fn idempotent_saga_explain(args: &Args) -> Returned {
    let call = call(args.get(EXPLAIN.name), args.get(EXPLAIN.key), args.get(EXPLAIN.scope))?;
    pass_on_with(args, c"idempotent", c"saga_explain", Some((EXPLAIN.key.at, call.owner.key.datum)))
}

pub fn idempotent_saga_resume(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_saga_resume()");
    let limit = request::limit(args.duration(RESUME.wait, 0).ok().flatten());
    let call = call(args.get(RESUME.name), args.get(RESUME.key), args.get(RESUME.scope))?;
    let wait = request::wait(args.duration(RESUME.wait, 0)?, &call.policy);
    limit.set(wait);
    let (stepped, before) = resume(&call, wait)?;
    if let Some(step) = before.as_ref().and_then(SagaRow::next) {
        note(&call, "saga_resume", step.utf8, "")?;
    }
    returned(args, &call, &stepped)
}

pub fn idempotent_saga_abandon(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_saga_abandon()");
    let limit = request::limit(None);
    let call = call(args.get(ABANDON.name), args.get(ABANDON.key), args.get(ABANDON.scope))?;
    limit.set(request::wait(None, &call.policy));
    let (stepped, before) = abandon(&call)?;
    note(&call, "saga_abandon", before.next().map_or(&[], |name| name.utf8), "")?;
    settled(args, &stepped)
}

pub fn idempotent_saga_settle(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_saga_settle()");
    let limit = request::limit(None);
    let call = call(args.get(SETTLE.name), args.get(SETTLE.key), args.get(SETTLE.scope))?;
    limit.set(request::wait(None, &call.policy));
    let step = args.get(SETTLE.step);
    names::check(&STEP, step.map(|name| name.utf8))?;
    let settlement = args.get(SETTLE.verdict).and_then(|verdict| Settlement::parse(verdict.utf8));
    let (Some(step), Some(settlement)) = (step, settlement) else {
        return Err(no_verdict());
    };
    let answer = args.get(SETTLE.answer);
    if answer.is_some() && settlement != Settlement::Completed {
        return Err(Error::new(Code::InvalidParameter, "only a completed step has an answer")
            .hint("Leave out answer, or pass verdict => 'completed'."));
    }
    let stepped = settle(&call, &step, settlement, answer)?;
    note(&call, "saga_settle", step.utf8, settlement.name())?;
    settled(args, &stepped)
}

pub fn idempotent_saga_forget(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_saga_forget()");
    let limit = request::limit(None);
    let call = call(args.get(FORGET.name), args.get(FORGET.key), args.get(FORGET.scope))?;
    limit.set(request::wait(None, &call.policy));
    // What another node answers for is left behind here, and may be cleared away.
    let call = call.finishing();
    let Some(forgotten) = forget(&call, args.is_set(FORGET.unfinished))? else {
        return Ok(Some(Datum::from(false)));
    };
    let step = forgotten.next().filter(|_| !forgotten.at.state.is_final());
    note(&call, "saga_forget", step.map_or(&[], |name| name.utf8), forgotten.at.state.name())?;
    Ok(Some(Datum::from(true)))
}

fn no_verdict() -> Error {
    Error::new(Code::InvalidParameter, "verdict is not one that settles a step").hint(
        "Pass 'completed' or 'failed' for a step, 'compensated' or 'uncompensated' for a compensation.",
    )
}

/// Writes down what was done about a saga, and at which step.
fn note(call: &Call<'_>, action: &str, step: &[u8], what: &str) -> Result<()> {
    let step = String::from_utf8_lossy(step);
    let detail = match (step.is_empty(), what.is_empty()) {
        (true, _) => what.to_owned(),
        (false, true) => format!("step {step}"),
        (false, false) => format!("step {step}, {what}"),
    };
    audit::note(&Deed {
        action,
        operation: Some(call.owner.operation.datum),
        scope: Some(call.owner.scope.datum),
        key: Some(call.owner.key.datum),
        detail: Some(audit::detail(&detail)),
    })
}

/// Where the saga stands then.
fn settled(args: &Args, stepped: &Stepped) -> Returned {
    args.return_row(&[stepped.state.map(State::name).map(text), stepped.next_step])
}
