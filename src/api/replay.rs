//! `idempotent_replay` and `idempotent_explain`: what is known of a key, and why.

use crate::keys::answer::Answer;
use crate::keys::call::Call;
use crate::keys::keyless::Keyless;
use crate::keys::{explain, replay};
use crate::pg::arguments::{Args, Returned};
use crate::pg::datum::jsonb;
use rules::outcome::Outcome;

pub fn idempotent_replay(args: &Args) -> Returned {
    let mut call = match Call::new(args.text(0), args.text(1), args.text(2)) {
        Ok(call) => call,
        Err(error) => {
            Keyless::instead_of(error, args.text(0))?;
            return Answer::of(Outcome::Absent).into_datum(args.function());
        }
    };
    let answer = replay::look(&mut call)?;
    call.count_answer(answer.outcome);
    answer.into_datum(args.function())
}

pub fn idempotent_explain(args: &Args) -> Returned {
    let mut call = Call::new(args.text(0), args.text(1), args.text(2))?;
    let explanation = explain::explain(&mut call)?;
    jsonb::of(&explanation)
}
