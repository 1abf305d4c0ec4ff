//! How fast the sweeper works: gently while it keeps up, faster when it has fallen behind.

use crate::Micros;

/// How much longer the sweeper rests than it works while it keeps up: it takes a sixtieth of one core. At about a
/// microsecond a row that is enough for thirty thousand rows a second.
const KEEPING_UP: Micros = 60;
/// The same with a backlog: a twentieth of one core, and a backlog of five million is gone within a minute.
const BEHIND: Micros = 20;
/// A row that has been due for longer than this shows that the gentle pace is not enough.
const SOON: Micros = 60 * 1_000_000;
/// However long a transaction had to walk.
const LONGEST: Micros = 1_000_000;

/// The rest after a transaction.
///
/// * `worked`: the processor time that it used. (Not the time that passed: on a busy machine that is spent by the
///   sessions which the rest is for.)
/// * `overdue`: for how long the row has been due at which the next transaction goes on.
pub fn rest(worked: Micros, overdue: Micros) -> Micros {
    let times = if overdue > SOON { BEHIND } else { KEEPING_UP };
    worked.saturating_mul(times).min(LONGEST)
}

#[cfg(test)]
#[path = "tests/pace.rs"]
mod tests;
