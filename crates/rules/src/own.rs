//! The slots that a node answers for, where there are several, and the refusal of all others.

use crate::error::{Code, Error};
use crate::identity::printable;
use crate::slot;

/// Slots that a node answers for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots {
    /// From the first to before the second, in order.
    ranges: Vec<(u16, u16)>,
    text: String,
}

impl Slots {
    /// As Postgres prints an `int4multirange`: `{[0,4096),[8192,16384)}`. `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let inner = text.strip_prefix('{')?.strip_suffix('}')?;
        let ranges = inner
            .split_terminator(')')
            .map(|range| {
                let (first, until) =
                    range.trim_start_matches(',').strip_prefix('[')?.split_once(',')?;
                Some((first.parse().ok()?, until.parse().ok()?))
            })
            .collect::<Option<_>>()?;
        Some(Self { ranges, text: text.to_owned() })
    }

    /// Whether the slot is one of them.
    #[must_use]
    pub fn contains(&self, slot: u16) -> bool {
        let behind = self.ranges.partition_point(|(first, _)| *first <= slot);
        behind.checked_sub(1).is_some_and(|at| slot < self.ranges[at].1)
    }

    /// The refusal of an owner whose slot is none of them.
    #[must_use]
    pub fn refusal(&self, owner: &[u8]) -> Error {
        let (name, slot) = (printable(owner), slot::of(owner));
        Error::new(Code::Slot, "the slot is not this database's")
            .detail(format!(
                "Owner \"{name}\" has slot {slot}. This database answers for {}.",
                self.text
            ))
            .hint("Ask the node that owns the slot. If that is this one, an administrator tells it so: SELECT idempotent_own(...).")
    }
}

#[cfg(test)]
#[path = "tests/own.rs"]
mod tests;
