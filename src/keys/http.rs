//! What a claim over HTTP is answered: do the work, or what to send.

use crate::keys::answer::Answer;
use crate::pg::datum::{jsonb, make, varlena};
use pgrx::pg_sys::Datum;
use rules::error::Result;
use rules::http::headers::{self, Header};
use rules::http::keep;
use rules::http::problem::Problem;
use rules::outcome::Outcome;

/// The columns of `idempotent_http_claim`.
pub struct HttpAnswer {
    pub run: bool,
    /// `None` where the header names none.
    pub key: Option<Datum>,
    /// Of a lease that was granted.
    pub fence: Option<i64>,
    pub outcome: &'static str,
    pub status: Option<i32>,
    pub headers: Option<Datum>,
    pub body: Option<Datum>,
    pub retry_after: Option<i32>,
}

impl HttpAnswer {
    /// What an answer is over HTTP; `is_head`: to a request whose answers have no body.
    pub fn new(answer: &Answer, key: Option<Datum>, is_head: bool) -> Result<Self> {
        match Problem::of_outcome(answer.outcome, answer.retry_after) {
            Some(problem) => Self::problem(&problem, key, is_head),
            None if answer.outcome == Outcome::Replay => Self::replay(answer, key, is_head),
            None => Ok(Self {
                run: true,
                key,
                fence: answer.fence,
                outcome: answer.outcome.name(),
                status: None,
                headers: None,
                body: None,
                retry_after: None,
            }),
        }
    }

    pub fn problem(problem: &Problem, key: Option<Datum>, is_head: bool) -> Result<Self> {
        let body = if is_head { String::new() } else { problem.body() };
        Ok(Self {
            run: false,
            key,
            fence: None,
            outcome: problem.outcome,
            status: Some(i32::from(problem.status)),
            headers: Some(make::text(&headers::write(&problem.headers()))),
            body: Some(make::varlena(body.as_bytes())?),
            retry_after: problem.retry_after,
        })
    }

    fn replay(answer: &Answer, key: Option<Datum>, is_head: bool) -> Result<Self> {
        let evicted = answer.evicted == Some(true);
        let mut kept = answer.headers.map_or_else(Vec::new, stored_headers);
        let body = match (answer.body, answer.response) {
            _ if is_head => None,
            (Some(body), _) => Some(body),
            // Stored by a function that knows nothing of HTTP.
            (None, Some(response)) => {
                say_that_it_is_json(&mut kept);
                // SAFETY: the column is declared jsonb.
                Some(make::varlena(unsafe { jsonb::text(response) })?)
            }
            (None, None) => None,
        };
        let has_body = body.is_some_and(|body| {
            // SAFETY: a bytea, or made above.
            unsafe { varlena::raw_size(body) > 0 }
        });
        let by_default = keep::status_of_unnamed(answer.failed == Some(true), has_body);
        let headers = headers::write(&headers::of_replay(kept, evicted));
        Ok(Self {
            run: false,
            key,
            fence: None,
            outcome: answer.outcome.name(),
            status: Some(answer.status.unwrap_or_else(|| i32::from(by_default))),
            headers: Some(make::text(&headers)),
            body: Some(body.map_or_else(|| make::varlena(&[]), Ok)?),
            retry_after: None,
        })
    }

    /// As the SQL declaration has them (sql/35_http.sql).
    pub fn columns(&self) -> [Option<Datum>; 8] {
        [
            Some(Datum::from(self.run)),
            self.key,
            self.fence.map(Datum::from),
            Some(make::text(self.outcome)),
            self.status.map(Datum::from),
            self.headers,
            self.body,
            self.retry_after.map(Datum::from),
        ]
    }
}

fn stored_headers(stored: Datum) -> Vec<Header> {
    // SAFETY: the column is declared jsonb.
    headers::stored(unsafe { jsonb::text(stored) })
}

fn say_that_it_is_json(headers: &mut Vec<Header>) {
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
    }
}
