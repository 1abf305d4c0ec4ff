//! Draws calls of sagas. All clients come through the same keys, at about the same time.

use fastrand::Rng;

use super::patterns::PatternStep;
use crate::pattern::saga::{STEPS, Saga, Verdict};

pub fn draw(rng: &mut Rng, scripts: u32) -> Vec<PatternStep> {
    let key = scripts / 8 + rng.u32(..3);
    let step = Saga::Step { key, number: 0 };
    let sagas = match rng.u32(..28) {
        0..3 => vec![Saga::Run { key }],
        3..14 => vec![step],
        14..16 => vec![step, step],
        16..18 => vec![Saga::Resume { key, number: 0 }],
        18 => vec![Saga::Abandon { key }],
        19..27 => {
            let verdict = Verdict::ALL[rng.usize(..Verdict::ALL.len())];
            vec![Saga::Settle { key, step: rng.u32(..STEPS), verdict }]
        }
        _ => vec![Saga::Forget { key, unfinished: rng.bool() }],
    };
    sagas.into_iter().map(PatternStep::Saga).collect()
}
