//! A transaction of the plan, step by step. A step that makes no sense any more is left out; one that is refused is
//! followed by the next rollback to a savepoint, or by the end.

use super::held::{Held, Holding};
use super::patterns;
use super::session::Session;
use super::slots::Slots;
use crate::answer;
use crate::history::{Call, Level, Outcome};
use crate::plan::{Asked, End, Slot, Step};

pub fn play(session: &mut Session<'_>, slots: &Slots, level: Level, steps: &[Step], how: End) {
    let mut holding = Holding::default();
    if let Some(owner) = steps.iter().find_map(|step| owner(&mut holding, slots, *step)) {
        session.face(&owner);
    }
    if !session.connect() || !session.call(Call::Begin { level }, None).is_ok() {
        return;
    }
    let mut failed = false;
    for step in steps {
        if failed && !matches!(step, Step::RollbackTo { name } if holding.has_savepoint(*name)) {
            continue;
        }
        if owner(&mut holding, slots, *step).is_some_and(|owner| !session.asks_here(&owner)) {
            continue;
        }
        match play_step(session, slots, &mut holding, *step) {
            Some(Outcome::Lost) => return,
            Some(Outcome::Refused(_)) => failed = true,
            Some(_) => failed = false,
            None => {}
        }
    }
    // Under a lease nobody guards the commit: who has done the work and not completed it must roll back.
    let forgets = how != End::Abandon && holding.forgets_a_lease();
    end(session, if forgets { End::Rollback } else { how });
}

/// Whose data a step is about, if it is about any.
fn owner(holding: &mut Holding, slots: &Slots, step: Step) -> Option<String> {
    match step {
        Step::Claim { slot, .. }
        | Step::Effect { slot }
        | Step::Finish { slot, .. }
        | Step::Release { slot }
        | Step::Run { slot, .. }
        | Step::Replay { slot }
        | Step::Seal { slot }
        | Step::Forget { slot, .. }
        | Step::Unclaimed { slot } => Some(holding.key(slots, slot).text.clone()),
        Step::Pattern(step) => step.owner(),
        Step::Savepoint { .. }
        | Step::RollbackTo { .. }
        | Step::ReleaseSavepoint { .. }
        | Step::Configure { .. }
        | Step::Sweep => None,
    }
}

/// Ends the transaction that is open; whether it committed is the outcome.
pub fn end(session: &mut Session<'_>, how: End) -> Outcome {
    match how {
        End::Commit => session.call(Call::Commit, None),
        End::Rollback => session.call(Call::Rollback, None),
        End::Prepare => {
            let gid = session.gid();
            let outcome = session.call(Call::Prepare { gid: gid.clone() }, None);
            if outcome.is_done("PREPARE TRANSACTION") || outcome == Outcome::Lost {
                session.stage.add_prepared(gid, session.node());
            }
            outcome
        }
        End::Abandon => {
            session.abandon();
            Outcome::Lost
        }
    }
}

/// `None`: there was nothing to do.
fn play_step(
    session: &mut Session<'_>,
    slots: &Slots,
    holding: &mut Holding,
    step: Step,
) -> Option<Outcome> {
    match step {
        Step::Claim { slot, asked, lease_ms } => {
            Some(claim(session, slots, holding, slot, asked, lease_ms))
        }
        Step::Effect { slot } => effect(session, slots, holding, slot),
        Step::Finish { slot, failed } => finish(session, slots, holding, slot, failed),
        Step::Release { slot } => release(session, slots, holding, slot),
        Step::Run { slot, asked, declined } => run(session, slots, holding, slot, asked, declined),
        Step::Replay { slot } => {
            let key = holding.key(slots, slot);
            Some(session.call(Call::Replay { key: key.id }, Some(&key)))
        }
        Step::Seal { slot } => {
            let key = holding.key(slots, slot);
            Some(session.call(Call::Seal { key: key.id }, Some(&key)))
        }
        Step::Unclaimed { slot } => {
            if holding.get(slot).is_some() {
                return None;
            }
            let key = holding.key(slots, slot);
            let call = super::unclaimed(session, &key);
            Some(session.call(call, Some(&key)))
        }
        Step::Savepoint { name } => {
            holding.savepoint(name);
            Some(session.call(Call::Savepoint { name }, None))
        }
        Step::RollbackTo { name } => holding.has_savepoint(name).then(|| {
            holding.roll_back_to(name);
            session.call(Call::RollbackTo { name }, None)
        }),
        Step::ReleaseSavepoint { name } => holding.has_savepoint(name).then(|| {
            holding.release(name);
            session.call(Call::ReleaseSavepoint { name }, None)
        }),
        Step::Sweep => Some(session.call(Call::Sweep, None)),
        Step::Forget { slot, breaks } => {
            let key = holding.key(slots, slot);
            let outcome = session.call(super::forget(slots, &key, breaks), Some(&key));
            if outcome.is_done("t") {
                holding.give_back(slot);
            }
            Some(outcome)
        }
        Step::Configure { operation, change } => super::configure(session, operation, change),
        Step::Pattern(step) => patterns::play(session, step),
    }
}

fn claim(
    session: &mut Session<'_>,
    slots: &Slots,
    holding: &mut Holding,
    slot: Slot,
    asked: Asked,
    lease_ms: Option<u64>,
) -> Outcome {
    let key = holding.key(slots, slot);
    let call = Call::Claim {
        key: key.id,
        request: asked.request,
        lease_ms,
        wait_ms: asked.wait_ms,
        attempt_id: None,
        strict: asked.strict,
    };
    let outcome = session.call(call, Some(&key));
    match outcome.row() {
        Some(row) if row.outcome == "claimed" => holding.take(slot, row.fence),
        Some(row) => {
            slots.wear(slot, &key, &row.outcome);
            // Whoever gets an answer sees what belongs to it; one look in four is enough.
            let effect = answer::effect(row).filter(|effect| effect % 4 == 0);
            // Of several nodes it is where the key was when it was written.
            if let Some(effect) =
                effect.filter(|_| row.outcome == "replay" && !session.stage.has_nodes())
            {
                return session.call(Call::Look { key: key.id, effect }, Some(&key));
            }
        }
        None => {}
    }
    outcome
}

fn effect(
    session: &mut Session<'_>,
    slots: &Slots,
    holding: &mut Holding,
    slot: Slot,
) -> Option<Outcome> {
    let key = holding.key(slots, slot);
    let effect = session.number();
    let held = holding.get(slot).filter(|held| held.effect.is_none() && held.answer.is_none())?;
    held.effect = Some(effect);
    Some(session.call(Call::Effect { key: key.id, effect, fence: held.fence }, Some(&key)))
}

/// Done already: the same answer once more, which is harmless.
fn finish(
    session: &mut Session<'_>,
    slots: &Slots,
    holding: &mut Holding,
    slot: Slot,
    failed: bool,
) -> Option<Outcome> {
    let key = holding.key(slots, slot);
    let number = session.number();
    let held = holding.get(slot).filter(|held| held.effect.is_some() && !held.by_run)?;
    let (answer, failed) = *held.answer.get_or_insert((number, failed));
    let (effect, fence) = (held.effect, held.fence);
    Some(session.call(Call::Complete { key: key.id, answer, effect, failed, fence }, Some(&key)))
}

/// A key whose business row is written must be completed, not given back.
fn release(
    session: &mut Session<'_>,
    slots: &Slots,
    holding: &mut Holding,
    slot: Slot,
) -> Option<Outcome> {
    let key = holding.key(slots, slot);
    let fence =
        holding.get(slot).filter(|held| held.effect.is_none() && held.answer.is_none())?.fence;
    holding.give_back(slot);
    Some(session.call(Call::Release { key: key.id, fence }, Some(&key)))
}

/// A handler under one's own claim does the work of that claim: only where it is not done yet.
fn run(
    session: &mut Session<'_>,
    slots: &Slots,
    holding: &mut Holding,
    slot: Slot,
    asked: Asked,
    declined: bool,
) -> Option<Outcome> {
    let key = holding.key(slots, slot);
    if holding.get(slot).is_some_and(|held| held.effect.is_some()) {
        return None;
    }
    let call = super::run(session, &key, asked, declined);
    let Call::Run { effect, .. } = call else { return None };
    let outcome = session.call(call, Some(&key));
    if let Some(row) = outcome.row() {
        if row.outcome == "executed" {
            let answer = Some((effect, row.failed == Some(true)));
            holding
                .put(slot, Held { fence: row.fence, effect: Some(effect), answer, by_run: true });
        } else {
            slots.wear(slot, &key, &row.outcome);
        }
    }
    Some(outcome)
}
