//! How a caller names a handler: a function that takes one jsonb argument and returns jsonb.

use crate::error::{Code, Error};
use crate::identity::printable;

/// A handler as the caller names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named<'a> {
    /// By number.
    Oid(u32),
    /// By name, perhaps with its schema; as SQL spells it.
    Name(&'a [u8]),
}

impl<'a> Named<'a> {
    /// Reads `pay`, `app.pay`, `app.pay(jsonb)`, or an OID; `None` for other arguments than
    /// `(jsonb)`.
    ///
    /// The argument is jsonb whatever the name says, so it is never looked up.
    #[must_use]
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let text = text.trim_ascii();
        if !text.is_empty() && text.iter().all(u8::is_ascii_digit) {
            // What no OID can be is none that exists.
            let oid = text.iter().try_fold(0_u32, |oid, digit| {
                oid.checked_mul(10)?.checked_add(u32::from(digit - b'0'))
            });
            return Some(Self::Oid(oid.unwrap_or(0)));
        }
        let Some(before) = text.strip_suffix(b")") else {
            return Some(Self::Name(text));
        };
        let open = before.iter().rposition(|&byte| byte == b'(')?;
        let (name, arguments) = (&before[..open], before[open + 1..].trim_ascii());
        let is_jsonb = ["jsonb", "pg_catalog.jsonb"]
            .iter()
            .any(|spelling| arguments.eq_ignore_ascii_case(spelling.as_bytes()));
        is_jsonb.then(|| Self::Name(name.trim_ascii()))
    }
}

/// A handler was named with other arguments than `(jsonb)`: 22023.
#[must_use]
pub fn other_arguments(text: &[u8]) -> Error {
    Error::new(Code::InvalidParameter, format!("function {} cannot be a handler", printable(text)))
        .detail("A handler is a function that takes one jsonb argument and returns jsonb.")
        .hint("Name it with one jsonb argument, or with none: 'pay(jsonb)' or 'pay'.")
}

/// There is no such function: 42883.
#[must_use]
pub fn missing(text: &[u8]) -> Error {
    let name = printable(text);
    Error::new(Code::UndefinedFunction, format!("handler \"{name}\" does not exist"))
        .detail("No function of that name takes one jsonb argument, in the schema that is named or in the search_path.")
        .hint("Name a function that takes one jsonb argument and returns jsonb, with its schema if that is not in the search_path: 'pay' or 'app.pay'. Or pass its OID.")
}

/// The function was dropped while the call waited for its claim: 42883.
#[must_use]
pub fn dropped() -> Error {
    Error::new(Code::UndefinedFunction, "handler was dropped while the call waited")
        .detail("Nothing was done for the key.")
        .hint("Create the function again and repeat the call.")
}

#[cfg(test)]
#[path = "tests/handler.rs"]
mod tests;
