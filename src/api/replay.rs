//! `idempotent_replay` and `idempotent_explain`: what is known of a key, and why.

use crate::keys::answer::Answer;
use crate::keys::call::Call;
use crate::keys::keyless::Keyless;
use crate::keys::request::{limit, wait};
use crate::keys::{explain, replay};
use crate::pg::arguments::{Args, Returned};
use crate::pg::datum::jsonb;
use crate::pg::declaration::arguments;
use rules::outcome::Outcome;

arguments! {
    REPLAY: Replay = "idempotent_replay" {
        operation: Text, key: Text, scope: Text,
    }
    EXPLAIN: Explain = "idempotent_explain" {
        operation: Text, key: Text, scope: Text,
    }
}

pub fn idempotent_replay(args: &Args) -> Returned {
    let limit = limit(None);
    let mut call =
        match Call::new(args.get(REPLAY.operation), args.get(REPLAY.key), args.get(REPLAY.scope)) {
            Ok(call) => call,
            Err(error) => {
                Keyless::instead_of(error, args.get(REPLAY.operation))?;
                return Answer::of(Outcome::Absent).into_datum(args);
            }
        };
    limit.set(wait(None, &call.policy));
    let answer = replay::look(&mut call)?;
    call.count_answer(answer.outcome);
    answer.into_datum(args)
}

pub fn idempotent_explain(args: &Args) -> Returned {
    let limit = limit(None);
    let mut call = Call::of_what_is_there(
        args.get(EXPLAIN.operation),
        args.get(EXPLAIN.key),
        args.get(EXPLAIN.scope),
    )?;
    limit.set(wait(None, &call.policy));
    let explanation = explain::explain(&mut call)?;
    jsonb::of(&explanation)
}
