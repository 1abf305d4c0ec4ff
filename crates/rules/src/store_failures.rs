//! Which errors of a handler are final answers (`store_failures`).

use crate::error::{Code, Error, Result};
use crate::identity::printable;

/// The SQLSTATEs, and classes of them, whose errors are stored and replayed.
#[derive(Default, Clone, Debug, PartialEq, Eq)]
pub struct StoreFailures {
    /// Upper case, five characters or two; sorted, each once.
    entries: Vec<String>,
}

/// Classes and codes that say "try again" (or are this extension's own word), and why. Stored, such
/// an error would be replayed instead of tried again.
const NEVER: [(&str, &str); 9] = [
    ("08", "the connection was lost: trying again may succeed"),
    ("40", "the transaction was rolled back: trying again may succeed"),
    ("53", "a resource ran out: trying again may succeed"),
    ("55P03", "a lock was not free: trying again may succeed"),
    ("57", "an operator intervened: trying again may succeed"),
    ("58", "the system failed: trying again may succeed"),
    ("ID", "it says that the key was not used rightly, not what came of the work"),
    ("XX", "something is broken: what became of the work is unknown"),
    ("00", "it is no error"),
];

impl StoreFailures {
    /// Reads SQLSTATEs (five of `0`-`9`, `A`-`Z`) and classes (their first two), in either case.
    ///
    /// # Errors
    /// `22023` for anything else, and for what must never be stored: classes 08, 40, 53, 57, 58
    /// and the code 55P03, which say "try again"; XX, which says that the outcome is unknown; ID, this
    /// extension's own; 00, which is no error.
    pub fn parse<E: AsRef<[u8]>>(entries: impl IntoIterator<Item = E>) -> Result<Self> {
        let hint = "Name the SQLSTATEs, or classes of them, by which your handler refuses for \
            good, such as store_failures => '{P0001,23}'.";
        Self::parse_as("store_failures", hint, entries)
    }

    /// As [`Self::parse`], for a list of another name.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_as<E: AsRef<[u8]>>(
        list: &str,
        hint: &str,
        entries: impl IntoIterator<Item = E>,
    ) -> Result<Self> {
        let mut parsed = entries
            .into_iter()
            .map(|entry| parse_entry(list, hint, entry.as_ref()))
            .collect::<Result<Vec<_>>>()?;
        parsed.sort();
        parsed.dedup();
        Ok(Self { entries: parsed })
    }

    /// Whether nothing is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether an error with this SQLSTATE is a final answer. Never one that says "try again", even
    /// when its class was named.
    #[must_use]
    pub fn matches(&self, sqlstate: &str) -> bool {
        never(sqlstate).is_none() && self.entries.iter().any(|entry| covers(entry, sqlstate))
    }
}

/// Whether `sqlstate`, a code or a class, belongs to `entry`, a code or a class. To a code belongs
/// nothing but itself, as no SQLSTATE is longer.
fn covers(entry: &str, sqlstate: &str) -> bool {
    sqlstate.starts_with(entry)
}

fn never(sqlstate: &str) -> Option<&'static str> {
    let found = NEVER.iter().find(|(entry, _)| covers(entry, sqlstate));
    found.map(|(_, reason)| *reason)
}

fn parse_entry(list: &str, hint: &str, entry: &[u8]) -> Result<String> {
    let refuse = |problem: &str| {
        Error::new(Code::InvalidParameter, format!("{list} cannot hold \"{}\"", printable(entry)))
            .detail(problem)
            .hint(hint)
    };
    let sound = matches!(entry.len(), 2 | 5) && entry.iter().all(u8::is_ascii_alphanumeric);
    let Some(text) = std::str::from_utf8(entry).ok().filter(|_| sound) else {
        return Err(refuse(
            "An SQLSTATE has five characters, 0-9 or A-Z, and a class the first two of them.",
        ));
    };
    let text = text.to_ascii_uppercase();
    match never(&text) {
        Some(reason) => Err(refuse(&format!("An error of {text} is never stored: {reason}."))),
        None => Ok(text),
    }
}

#[cfg(test)]
#[path = "tests/store_failures.rs"]
mod tests;
