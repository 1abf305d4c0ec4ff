//! A step of a saga: find what is next, call its handler with the caller's rights, and write what it
//! did, in one call, so that no caller can write what no handler did.

use crate::keys::call::{Call, kept};
use crate::keys::handler::Handler;
use crate::keys::request::{Document, fingerprint};
use crate::keys::run::failure;
use crate::keys::running::{For, Running};
use crate::keys::waiting::Waiting;
use crate::pg::clock;
use crate::pg::datum::text::Text;
use crate::pg::error::Kept;
use crate::pg::lock::{self, KeyLock};
use crate::settings;
use crate::tables::hold::Patience;
use crate::tables::sagas::{Done, SagaRow, Sagas, Written};
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
    /// Where the saga stands now; `None` where the call has not looked.
    pub state: Option<State>,
    /// The name of the step that is next, to be run or to be compensated.
    pub next_step: Option<Datum>,
}

impl Stepped {
    fn of(outcome: Outcome) -> Self {
        Self { outcome: Some(outcome), ..Self::default() }
    }

    fn replay(found: &SagaRow) -> Self {
        let state = found.known.state;
        Self {
            failed: Some(state == State::Compensated),
            answers: found.answers,
            failure: found.failure,
            state: Some(state),
            ..Self::of(Outcome::Replay)
        }
    }
}

/// Does the next step, or answers for a saga that has none.
pub fn step(call: &Call<'_>, request: Option<Datum>, wait: Micros) -> Result<Stepped> {
    let sagas = call.open_sagas()?;
    let asked = fingerprint(request, &call.policy);
    let verdict = |found: Option<&SagaRow>| {
        let now = clock::now();
        let stored = found.and_then(|found| found.known.fingerprint);
        let asked = call.asked(asked, request.map(Document::Jsonb), stored)?;
        Ok(judge(found.map(|found| &found.known), asked, age(call, now), now))
    };
    // Another request is told so before it waits for anything.
    if verdict(sagas.find(&call.owner)?.as_ref())? == Verdict::Mismatch {
        return Ok(Stepped::of(Outcome::Mismatch));
    }
    let mut waiting = Waiting::for_up_to(wait, &call.tally);
    if !hold(call, &waiting) {
        return Ok(Stepped::of(Outcome::InProgress));
    }
    let Some(found) = locked(call, &sagas, &mut waiting)? else {
        return Ok(Stepped::of(Outcome::InProgress));
    };
    match (verdict(found.as_ref())?, found) {
        (Verdict::GoOn, Some(found)) => go_on(call, &sagas, &found),
        (Verdict::Replay, Some(found)) => Ok(Stepped::replay(&found)),
        (Verdict::Mismatch, _) => Ok(Stepped::of(Outcome::Mismatch)),
        (Verdict::Expired, _) => Ok(Stepped::of(Outcome::Expired)),
        (Verdict::Start | Verdict::GoOn | Verdict::Replay, expired) => {
            call.check_scope()?;
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

/// Does the next step of a saga that was started, with the request that it was started with; and the row
/// as it was before, if there was a step to do.
///
/// # Errors
/// 42704 if nothing is known of the key; ID010 if another node answers for its owner.
pub fn resume(call: &Call<'_>, wait: Micros) -> Result<(Stepped, Option<SagaRow>)> {
    let sagas = call.open_sagas()?;
    let mut waiting = Waiting::for_up_to(wait, &call.tally);
    if !hold(call, &waiting) {
        return Ok((Stepped::of(Outcome::InProgress), None));
    }
    let Some(found) = started(call, &sagas, &mut waiting)? else {
        return Ok((Stepped::of(Outcome::InProgress), None));
    };
    if found.at.state.is_final() {
        return Ok((Stepped::replay(&found), None));
    }
    Ok((go_on(call, &sagas, &found)?, Some(found)))
}

/// Holds the saga until the transaction ends; whether that was to be had in time.
pub fn hold(call: &Call<'_>, waiting: &Waiting<'_>) -> bool {
    waiting.lock(lock::saga_tag(call.owner.id)).map(KeyLock::keep).is_some()
}

/// The row of a saga that the transaction holds, if there is one, locked; `None` if a transaction that does not
/// hold the saga, an administrator's, has locked it for longer than the call waits.
///
/// # Errors
/// 40001 under REPEATABLE READ and above for a row that is newer than the transaction's snapshot.
pub fn locked(
    call: &Call<'_>,
    sagas: &Sagas,
    waiting: &mut Waiting<'_>,
) -> Result<Option<Option<SagaRow>>> {
    loop {
        let found = sagas.find_locked(&call.owner)?;
        if found.is_some() {
            return Ok(Some(found));
        }
        if sagas.find(&call.owner)?.is_none() {
            sagas.check_absent(&call.owner)?;
            return Ok(Some(None));
        }
        if waiting.remaining() == 0 {
            return Ok(None);
        }
        waiting.for_leased(None);
    }
}

/// As `locked`, of a saga that was started.
///
/// # Errors
/// 42704 if nothing is known of the key.
pub fn started(
    call: &Call<'_>,
    sagas: &Sagas,
    waiting: &mut Waiting<'_>,
) -> Result<Option<SagaRow>> {
    let Some(found) = locked(call, sagas, waiting)? else { return Ok(None) };
    found.filter(|it| !it.known.expired(clock::now())).map(Some).ok_or_else(|| {
        Error::new(Code::UndefinedObject, "there is no such saga")
            .detail(format!("Nothing is known of {}.", call.owner.identity.describe()))
            .hint("See which there are: SELECT * FROM idempotent.sagas.")
    })
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
    let running = Running::enter(For::Step, call.owner.id, &call.owner.identity, true)?;
    let (did, answer, failure) = match handler.call_judging_constraints(found.argument)? {
        Ok(answer) => (Did::Answered, answer, None),
        Err(error) if is_final(call, found, &error)? => (Did::Failed, None, failure(&error)?),
        Err(error) => error.resume(),
    };
    drop(running);
    write(call, sagas, found, &Came { did, answer, failure })
}

/// What came of the step that was next.
pub struct Came {
    pub did: Did,
    /// `None`: it answered null, or not at all.
    pub answer: Option<Datum>,
    /// What it failed with for good.
    pub failure: Option<Datum>,
}

/// Writes down what came of the step that was next.
pub fn write(call: &Call<'_>, sagas: &Sagas, found: &SagaRow, came: &Came) -> Result<Stepped> {
    let (from, to) = (found.at, done(found.at, came.did, &found.can_undo));
    let at = clock::now();
    let failed = to.state == State::Compensated;
    let (dates, skew) = (call.dates(None), settings::clock_skew());
    let expires = answer_expires(&call.policy, failed, None, dates, at, skew);
    let done = Done {
        from,
        to,
        step: found.step,
        answer: came.answer,
        failure: came.failure,
        is_given_up: from.state == State::Compensating && came.did == Did::Failed,
        at,
        expires_at: to.state.is_final().then_some(expires),
    };
    let Written { answers, failure, next_step } = sagas.write(&call.owner, &done)?;
    let stepped = Stepped { state: Some(to.state), next_step, ..Stepped::default() };
    if !to.state.is_final() {
        return Ok(stepped);
    }
    let outcome = Some(Outcome::Executed);
    Ok(Stepped { outcome, failed: Some(failed), answers, failure, ..stepped })
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
