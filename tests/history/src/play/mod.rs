//! Playing a plan: what its steps become when others play too, and what came back.

pub mod close;
mod held;
pub mod lease;
pub mod patterns;
pub mod sagas;
pub mod session;
pub mod slots;
pub mod sql;
pub mod stage;
pub mod topics;
pub mod transaction;

use crate::history::{Call, Key, Outcome};
use crate::plan::{Asked, Plan, Script, Step};
use crate::settings::Change;
use session::Session;
use slots::Slots;
use stage::Stage;

/// Plays a client's plan until the stage says that it is over.
pub fn play(stage: &Stage, slots: &Slots, client: u32, plan: Plan) -> crate::Result<()> {
    let mut session = Session::new(stage, client);
    for script in plan {
        if stage.is_over() {
            break;
        }
        if !session.connect() {
            break;
        }
        match script {
            Script::Transaction { level, steps, end } => {
                transaction::play(&mut session, slots, level, &steps, end);
            }
            Script::Lease(lease) => lease::play(&mut session, slots, &lease),
            Script::Single(step) => single(&mut session, slots, step),
            Script::Settle { commit } => settle(&mut session, commit),
        }
        session.leave_no_transaction();
    }
    session.failure.map_or(Ok(()), Err)
}

/// A step that commits by itself.
fn single(session: &mut Session<'_>, slots: &Slots, step: Step) {
    let (slot, call) = match step {
        Step::Run { slot, asked, declined } => {
            let key = slots.key(slot);
            let call = run(session, &key, asked, declined);
            (Some((slot, key)), call)
        }
        Step::Replay { slot } => {
            let key = slots.key(slot);
            (Some((slot, key.clone())), Call::Replay { key: key.id })
        }
        Step::Seal { slot } => {
            let key = slots.key(slot);
            (Some((slot, key.clone())), Call::Seal { key: key.id })
        }
        Step::Unclaimed { slot } => {
            let key = slots.key(slot);
            let call = unclaimed(session, &key);
            (Some((slot, key)), call)
        }
        Step::Forget { slot, breaks } => {
            let key = slots.key(slot);
            let call = forget(slots, &key, breaks);
            (Some((slot, key)), call)
        }
        Step::Configure { operation, change } => {
            configure(session, operation, change);
            return;
        }
        Step::Pattern(step) => {
            patterns::play(session, step);
            return;
        }
        _ => (None, Call::Sweep),
    };
    let key = slot.as_ref().map(|(_, key)| &**key);
    let outcome = session.call(call, key);
    if let Some((slot, key)) = &slot {
        slots.wear(*slot, key, outcome.said());
        if outcome.said() == "unknown" {
            session.settle_unknown(key);
        }
    }
}

fn run(session: &mut Session<'_>, key: &Key, asked: Asked, declined: bool) -> Call {
    Call::Run {
        key: key.id,
        request: asked.request,
        wait_ms: asked.wait_ms,
        effect: session.number(),
        declined,
        strict: asked.strict,
    }
}

/// By an administrator, who has looked for the fence of a lease that is to be broken.
fn forget(slots: &Slots, key: &Key, breaks: bool) -> Call {
    Call::Forget { key: key.id, fence: slots.last_lease(key).filter(|_| breaks) }
}

/// `None`: of several nodes each has settings of its own, which stay as they are.
fn configure(session: &mut Session<'_>, operation: usize, change: Change) -> Option<Outcome> {
    if session.stage.has_nodes() {
        return None;
    }
    Some(session.call(Call::Configure { operation, change }, None))
}

/// The completion of a key that this transaction does not hold.
fn unclaimed(session: &mut Session<'_>, key: &Key) -> Call {
    let answer = session.number();
    Call::Complete { key: key.id, answer, effect: None, failed: false, fence: None }
}

fn settle(session: &mut Session<'_>, commit: bool) {
    if let Some((gid, node)) = session.stage.take_prepared() {
        session.face_node(node);
        if !session.connect() {
            return;
        }
        let call = if commit {
            Call::CommitPrepared { gid: gid.clone() }
        } else {
            Call::RollbackPrepared { gid: gid.clone() }
        };
        let outcome = session.call(call, None);
        // Neither settled nor unknown to the server: it may still be there.
        if !outcome.is_ok() && outcome.code() != "42704" {
            session.stage.add_prepared(gid, node);
        }
    }
}
