//! What is answered instead of the stored answer: RFC 9457 problems.

use crate::http::headers::Header;
use crate::http::key::BadKey;
use crate::outcome::Outcome;
use crate::request::json::quote;
use crate::{Micros, names};

/// Where each problem is explained, by its anchor.
const PAGE: &str = "https://pgxn.org/dist/pg_idempotent/docs/http.html";

/// What is answered to a request that is not to be worked on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The outcome, by its name.
    pub outcome: &'static str,
    /// Of HTTP.
    pub status: u16,
    /// The page's anchor for it.
    anchor: &'static str,
    title: &'static str,
    detail: String,
    /// When to ask again, in seconds.
    pub retry_after: Option<i32>,
}

impl Problem {
    /// That of a header that names no key.
    #[must_use]
    pub fn of_key(bad: BadKey) -> Self {
        let (outcome, anchor, title, detail) = match bad {
            BadKey::Missing => (
                "missing",
                "key-missing",
                "Idempotency-Key is missing",
                "This operation requires the header Idempotency-Key: send a value that is new for each operation, and the same for each of its attempts.".to_owned(),
            ),
            BadKey::NoString => (
                "malformed",
                "key-malformed",
                "Idempotency-Key is malformed",
                "The value begins with a quote and is no String of RFC 8941: end it with a quote, and write a backslash before a quote or a backslash within.".to_owned(),
            ),
            BadKey::NoKey => (
                "malformed",
                "key-malformed",
                "Idempotency-Key is malformed",
                format!("A key is 1 to {} bytes of text without control characters.", names::MAX_KEY),
            ),
            BadKey::NoUuid => (
                "malformed",
                "key-malformed",
                "Idempotency-Key is malformed",
                "This operation requires a UUID: 32 hexadecimal digits, with or without hyphens.".to_owned(),
            ),
        };
        Self { outcome, status: 400, anchor, title, detail, retry_after: None }
    }

    /// That of an outcome; `None` for one that is no problem.
    #[must_use]
    pub fn of_outcome(outcome: Outcome, retry_after: Option<Micros>) -> Option<Self> {
        let (anchor, title, detail) = match outcome {
            Outcome::InProgress => (
                "in-progress",
                "A request with this Idempotency-Key is in progress",
                "An earlier request with this key is being worked on. Send this one again later: it will get the same answer.",
            ),
            Outcome::Mismatch => (
                "mismatch",
                "Idempotency-Key was used with another request",
                "The method, the target, the media type or the body differs from what was first sent with this key. Send another operation with a new key.",
            ),
            Outcome::Expired => (
                "expired",
                "Idempotency-Key is too old",
                "The key was made longer ago than answers are kept, so whether the operation was carried out is no longer known. Find out, and if it was not, send it with a new key.",
            ),
            Outcome::Unknown => (
                "unknown",
                "Whether the operation was carried out is unknown",
                "An earlier request with this key may have been carried out. It is for the operator of the service to find out; until then it is not tried again.",
            ),
            Outcome::Sealed => (
                "sealed",
                "The operation was called off",
                "It was decided that the operation with this key is not carried out, now or later. If it is wanted after all, send it with a new key.",
            ),
            Outcome::Claimed | Outcome::Executed | Outcome::Replay | Outcome::Absent => {
                return None;
            }
        };
        Some(Self {
            outcome: outcome.name(),
            status: outcome.http()?,
            anchor,
            title,
            detail: detail.to_owned(),
            retry_after: retry_after.map(seconds),
        })
    }

    /// The headers to send.
    #[must_use]
    pub fn headers(&self) -> Vec<Header> {
        let mut headers = vec![("Content-Type".to_owned(), "application/problem+json".to_owned())];
        headers.extend(self.retry_after.map(|after| ("Retry-After".to_owned(), after.to_string())));
        headers
    }

    /// The body to send.
    #[must_use]
    pub fn body(&self) -> String {
        let mut json = String::from("{\"type\":");
        quote(&format!("{PAGE}#{}", self.anchor), &mut json);
        json.push_str(",\"title\":");
        quote(self.title, &mut json);
        json.push_str(&format!(",\"status\":{},\"detail\":", self.status));
        quote(&self.detail, &mut json);
        json.push('}');
        json
    }
}

/// Whole seconds, at least one, and never too early.
fn seconds(micros: Micros) -> i32 {
    let up = micros.max(1).saturating_add(999_999) / 1_000_000;
    i32::try_from(up).unwrap_or(i32::MAX)
}

#[cfg(test)]
#[path = "../tests/http_problem.rs"]
mod tests;
