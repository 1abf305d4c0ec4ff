//! The commit guard: a claim that is still open is a completion that was forgotten.

use crate::pg::clock;
use crate::session::claims::{self, Name};
use crate::stats::{self, Counter, samples};
use rules::error::{Code, Error, Result};
use rules::observe::Observed;

/// Refuses a transaction that is about to commit or to be prepared.
///
/// # Errors
/// ID009 if a claim is still open.
pub fn check() -> Result<()> {
    claims::with_open(|open| {
        let mut forgotten = Forgotten::default();
        for (claim, name) in open {
            if claim.guarded {
                forgotten.add(name);
            } else {
                note_unfinished(name);
            }
        }
        forgotten.refuse()
    })
}

/// Refuses a transaction that could not commit now.
///
/// # Errors
/// As `check`. Nothing is noted of operations that are only observed: their commit does that.
pub fn refuse_open() -> Result<()> {
    claims::with_open(|open| {
        let mut forgotten = Forgotten::default();
        open.filter(|(claim, _)| claim.guarded).for_each(|(_, name)| forgotten.add(name));
        forgotten.refuse()
    })
}

/// A claim that would be refused, were its operation not only observed.
fn note_unfinished(name: &Name) {
    let parts = name.parts();
    stats::add(parts[0], Counter::of_observed(Observed::Unfinished), 1);
    samples::keep(Observed::Unfinished, clock::now(), parts);
}

/// The claims for which the commit is refused.
#[derive(Default)]
struct Forgotten<'a> {
    first: Option<&'a Name>,
    count: usize,
    /// Their operations.
    operations: Vec<&'a [u8]>,
}

impl<'a> Forgotten<'a> {
    fn add(&mut self, name: &'a Name) {
        self.first.get_or_insert(name);
        self.count += 1;
        let [operation, ..] = name.parts();
        // Without memory for it the refusal is not counted.
        if self.operations.try_reserve(1).is_ok() {
            self.operations.push(operation);
        }
    }

    fn refuse(mut self) -> Result<()> {
        let Some(first) = self.first else { return Ok(()) };
        self.operations.sort_unstable();
        self.operations.dedup();
        for operation in self.operations {
            stats::add(operation, Counter::GuardRefused, 1);
        }
        let mut detail = format!("Claimed and not finished: {}", first.describe());
        if self.count > 1 {
            detail.push_str(&format!(", and {} more", self.count - 1));
        }
        detail.push('.');
        Err(Error::new(Code::Guard, "a claimed key is neither completed nor released")
            .detail(detail)
            .hint(
                "Before COMMIT, call idempotent_complete, idempotent_fail or idempotent_release for every key that was claimed. Outside BEGIN each statement commits by itself: use idempotent_run there.",
            ))
    }
}
