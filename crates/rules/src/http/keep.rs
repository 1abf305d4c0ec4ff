//! What becomes of an answer, by its status (`http_store`).

use crate::error::{Code, Error, Result};
use crate::identity::printable;

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Stored for the retention.
    Complete,
    /// Stored as a failure, for the retention of failures.
    Fail,
    /// Not stored: the key is given back, and the next attempt runs.
    Release,
}

/// What an operation's owner wants kept otherwise than by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreRules {
    /// A status alone before the class that it belongs to.
    entries: Vec<(Statuses, Keep)>,
}

/// One status, or a class of them by its first digit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Statuses {
    One(u16),
    Class(u16),
}

/// Errors of the client that say "not like this", or "not now", and nothing of the work.
const RELEASED: [u16; 9] = [401, 403, 407, 408, 409, 421, 423, 425, 429];

/// A status that ends an exchange.
///
/// # Errors
/// `22023` for null, for 1xx, which announces another answer, and for what is no status.
pub fn final_status(status: Option<i32>) -> Result<u16> {
    let given = status.map_or_else(|| "null".to_owned(), |status| status.to_string());
    status
        .and_then(|status| u16::try_from(status).ok())
        .filter(|status| (200..600).contains(status))
        .ok_or_else(|| {
            Error::new(Code::InvalidParameter, format!("status cannot be {given}"))
                .detail(
                    "The status of an answer is 200 to 599; 1xx announces an answer and is none.",
                )
                .hint("Pass the status of the answer that was sent: status => 201.")
        })
}

/// Whether an answer of a status can have a body.
#[must_use]
pub fn has_body(status: u16) -> bool {
    !matches!(status, 204 | 205 | 304)
}

/// The status of a stored answer that came without one, from a function that knows nothing of HTTP.
#[must_use]
pub fn status_of_unnamed(failed: bool, has_body: bool) -> u16 {
    match (failed, has_body) {
        (true, _) => 400,
        (false, true) => 200,
        (false, false) => 204,
    }
}

impl StoreRules {
    /// Reads entries such as `409=fail`, `4xx=complete`, `503=release`.
    ///
    /// # Errors
    /// `22023` for anything else, and for two entries of one status.
    pub fn parse<E: AsRef<[u8]>>(entries: impl IntoIterator<Item = E>) -> Result<Self> {
        let mut parsed = Vec::new();
        for entry in entries {
            let entry = entry.as_ref();
            let (statuses, keep) = parse_entry(entry).ok_or_else(|| {
                refuse(
                    entry,
                    "An entry is a status or a class, =, and what becomes of such an answer.",
                )
            })?;
            if parsed.iter().any(|(known, _)| *known == statuses) {
                return Err(refuse(entry, "An entry before it is of the same status."));
            }
            parsed.push((statuses, keep));
        }
        parsed.sort_by_key(|(statuses, _)| *statuses);
        Ok(Self { entries: parsed })
    }

    /// What becomes of an answer with this status.
    #[must_use]
    pub fn keep(&self, status: u16) -> Keep {
        let says = |(statuses, keep): &(Statuses, Keep)| statuses.hold(status).then_some(*keep);
        self.entries.iter().find_map(says).unwrap_or_else(|| by_default(status))
    }
}

impl Statuses {
    fn hold(self, status: u16) -> bool {
        match self {
            Self::One(one) => one == status,
            Self::Class(class) => class == status / 100,
        }
    }
}

fn by_default(status: u16) -> Keep {
    match status {
        200..400 => Keep::Complete,
        400..500 if !RELEASED.contains(&status) => Keep::Fail,
        _ => Keep::Release,
    }
}

fn parse_entry(entry: &[u8]) -> Option<(Statuses, Keep)> {
    let entry = std::str::from_utf8(entry).ok()?.to_ascii_lowercase();
    let (statuses, keep) = entry.split_once('=')?;
    let statuses = match statuses.trim().strip_suffix("xx") {
        Some(class) => Statuses::Class(number(class, 2..6)?),
        None => Statuses::One(number(statuses.trim(), 200..600)?),
    };
    let keep = match keep.trim() {
        "complete" => Keep::Complete,
        "fail" => Keep::Fail,
        "release" => Keep::Release,
        _ => return None,
    };
    Some((statuses, keep))
}

fn number(text: &str, range: std::ops::Range<u16>) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && range.contains(number))
}

fn refuse(entry: &[u8], problem: &str) -> Error {
    Error::new(Code::InvalidParameter, format!("http_store cannot hold \"{}\"", printable(entry)))
        .detail(problem.to_owned())
        .hint("Write complete, fail or release for a status or a class: http_store => '{409=fail,4xx=complete}'.")
}

#[cfg(test)]
#[path = "../tests/http_keep.rs"]
mod tests;
