//! The headers of an answer: as JSON text, and which of them are kept (`http_headers`).

use crate::error::{Code, Error, Result};
use crate::identity::printable;
use crate::request::http::is_token;
use crate::request::json::{Document, quote};
use crate::request::token::Token;
use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};

/// A header: its name and its value.
pub type Header = (String, String);

/// Of one connection, of one caller, or written anew by the server: never kept.
const NEVER: [&str; 14] = [
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "set-cookie",
    "set-cookie2",
    "authorization",
    "authentication-info",
    "www-authenticate",
    "content-length",
    REPLAYED,
    EVICTED,
];
/// Names that begin so are never kept, either.
const NEVER_BEGINS: &str = "proxy-";

/// Of one exchange: kept only where an operation says so.
const NOT_BY_DEFAULT: [&str; 8] =
    ["date", "server", "age", "via", "traceparent", "tracestate", "x-request-id", "ratelimit"];
/// Names that begin so are as those.
const NOT_BY_DEFAULT_BEGINS: [&str; 2] = ["ratelimit-", "x-ratelimit-"];

const REPLAYED: &str = "idempotent-replayed";
const EVICTED: &str = "idempotent-evicted";

/// Which headers an operation's owner wants kept otherwise than by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderRules {
    /// Names in lower case, and whether such a header is kept.
    named: BTreeMap<String, bool>,
    /// Whether all others are left out.
    only_named: bool,
}

impl HeaderRules {
    /// Reads entries such as `+Date`, `-X-Internal`, and `-*` for all that no other entry names.
    ///
    /// # Errors
    /// `22023` for anything else, for a header that is never kept, and for a name that is there twice.
    pub fn parse<E: AsRef<[u8]>>(entries: impl IntoIterator<Item = E>) -> Result<Self> {
        let mut rules = Self::default();
        for entry in entries {
            let entry = entry.as_ref();
            if entry == b"-*" {
                rules.only_named = true;
                continue;
            }
            let (name, kept) = parse_entry(entry)
                .ok_or_else(|| refuse(entry, "An entry is + or -, and the name of a header."))?;
            if kept && is_never_kept(&name) {
                return Err(refuse(entry, "Such a header is of one connection or one caller."));
            }
            match rules.named.entry(name) {
                Entry::Vacant(free) => free.insert(kept),
                Entry::Occupied(_) => {
                    return Err(refuse(entry, "An entry before it is of the same header."));
                }
            };
        }
        Ok(rules)
    }

    /// Those of an answer's headers that are kept, in their order.
    #[must_use]
    pub fn kept(&self, headers: Vec<Header>) -> Vec<Header> {
        let mut of_connection = BTreeSet::new();
        for (name, value) in &headers {
            if name.eq_ignore_ascii_case("connection") {
                of_connection.extend(value.split(',').map(|name| name.trim().to_ascii_lowercase()));
            }
        }
        let keeps = |(name, _): &Header| {
            let name = name.to_ascii_lowercase();
            !of_connection.contains(&name) && self.keeps(&name)
        };
        headers.into_iter().filter(keeps).collect()
    }

    /// Whether a header is kept, by its name in lower case.
    fn keeps(&self, name: &str) -> bool {
        if is_never_kept(name) {
            return false;
        }
        match self.named.get(name) {
            Some(kept) => *kept,
            None => !self.only_named && is_kept_by_default(name),
        }
    }
}

fn is_never_kept(name: &str) -> bool {
    NEVER.contains(&name) || name.starts_with(NEVER_BEGINS)
}

fn is_kept_by_default(name: &str) -> bool {
    let begins = |beginning: &&str| name.starts_with(*beginning);
    !NOT_BY_DEFAULT.contains(&name) && !NOT_BY_DEFAULT_BEGINS.iter().any(begins)
}

fn parse_entry(entry: &[u8]) -> Option<(String, bool)> {
    let (sign, name) = entry.split_first()?;
    let kept = match sign {
        b'+' => true,
        b'-' => false,
        _ => return None,
    };
    let name =
        std::str::from_utf8(name).ok().filter(|name| is_token(name.as_bytes()) && *name != "*")?;
    Some((name.to_ascii_lowercase(), kept))
}

fn refuse(entry: &[u8], problem: &str) -> Error {
    Error::new(Code::InvalidParameter, format!("http_headers cannot hold \"{}\"", printable(entry)))
        .detail(problem.to_owned())
        .hint("Write + before a header to keep and - before one to leave out: http_headers => '{+X-Request-Id,-ETag}'. With -* only those with a + are kept.")
}

/// Reads headers: `[["Content-Type","text/plain"],["Vary","Origin"]]`.
///
/// # Errors
/// `22023` for other JSON and for what is none, and for a name or value that HTTP does not allow.
pub fn read(text: &[u8], look_up: fn()) -> Result<Vec<Header>> {
    let refuse = |detail: String| {
        Error::new(Code::InvalidParameter, "headers must be a JSON array of pairs of strings")
            .detail(detail)
            .hint("Pass name and value of each, in their order: headers => '[[\"Content-Type\",\"application/json\"]]'.")
    };
    let headers = Document::parse(text, look_up)
        .and_then(|document| pairs(&document))
        .ok_or_else(|| refuse("The text is no such array.".to_owned()))?;
    for (number, (name, value)) in headers.iter().enumerate() {
        if !is_token(name.as_bytes()) {
            return Err(refuse(format!("The name of pair {} is no name of a header.", number + 1)));
        }
        if value.chars().any(|letter| letter.is_control() && letter != '\t') {
            return Err(refuse(format!("The value of header \"{name}\" has a control character.")));
        }
    }
    Ok(headers)
}

/// Reads headers that were stored, by whatever function: pairs, or an object. What is neither is no header.
#[must_use]
pub fn stored(text: &[u8]) -> Vec<Header> {
    Document::parse(text, || ())
        .and_then(|document| pairs(&document).or_else(|| members(&document)))
        .unwrap_or_default()
}

/// `[[name, value], ...]`
fn pairs(document: &Document<'_>) -> Option<Vec<Header>> {
    let (mut depth, mut is_good) = (0, true);
    let (mut headers, mut pair) = (Vec::new(), Vec::new());
    document.emit(|token| match (depth, token) {
        (0 | 1, Token::BeginArray) => depth += 1,
        (2, Token::String(text)) => pair.push(String::from_utf8_lossy(text).into_owned()),
        (2, Token::EndArray) => {
            depth -= 1;
            match <[String; 2]>::try_from(std::mem::take(&mut pair)) {
                Ok([name, value]) => headers.push((name, value)),
                Err(_) => is_good = false,
            }
        }
        (1, Token::EndArray) => depth = 3,
        _ => is_good = false,
    });
    (is_good && depth == 3).then_some(headers)
}

/// `{name: value, ...}`, in which a value may be a string or a number.
fn members(document: &Document<'_>) -> Option<Vec<Header>> {
    let (mut name, mut depth, mut is_good) = (None, 0, true);
    let mut headers = Vec::new();
    document.emit(|token| match (depth, token) {
        (0, Token::BeginObject) => depth = 1,
        (1, Token::EndObject) => depth = 2,
        (1, Token::Member(text)) => name = Some(String::from_utf8_lossy(text).into_owned()),
        (1, Token::String(text) | Token::Number(text)) => {
            let text = String::from_utf8_lossy(text).into_owned();
            headers.extend(name.take().map(|name| (name, text)));
        }
        _ => is_good = false,
    });
    is_good.then_some(headers)
}

/// Headers as JSON text, in ASCII.
#[must_use]
pub fn write(headers: &[Header]) -> String {
    let mut json = String::from("[");
    for (number, (name, value)) in headers.iter().enumerate() {
        json.push_str(if number == 0 { "[" } else { ",[" });
        quote(name, &mut json);
        json.push(',');
        quote(value, &mut json);
        json.push(']');
    }
    json.push(']');
    json
}

/// The headers of a replay: the stored ones, and what says that it is one.
#[must_use]
pub fn of_replay(mut headers: Vec<Header>, evicted: bool) -> Vec<Header> {
    let header = |name: &str| (name.to_owned(), "true".to_owned());
    headers.push(header("Idempotent-Replayed"));
    if evicted {
        headers.push(header("Idempotent-Evicted"));
    }
    headers
}

#[cfg(test)]
#[path = "../tests/http_headers.rs"]
mod tests;
