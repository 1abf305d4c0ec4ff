//! The header `Idempotency-Key`: an RFC 8941 String, or the key as it is.

use crate::names;
use std::borrow::Cow;

/// A header that names no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadKey {
    /// There is no header, or nothing in it.
    Missing,
    /// It begins like a String and is none.
    NoString,
    /// It names a key that breaks the rules of all keys.
    NoKey,
    /// It names a key that is no UUID, as those of the operation are.
    NoUuid,
}

/// The key that a header names: `abc` and `"abc"` name the same one.
///
/// # Errors
/// Why it names none.
pub fn read(header: Option<&[u8]>) -> Result<Cow<'_, [u8]>, BadKey> {
    let header = header.map(trim).filter(|header| !header.is_empty()).ok_or(BadKey::Missing)?;
    let key = unquoted(header).ok_or(BadKey::NoString)?;
    match names::check(&names::KEY, Some(&key)) {
        Ok(_) => Ok(key),
        Err(_) => Err(BadKey::NoKey),
    }
}

/// The key within a header that [`read`] has accepted, whatever encoding the two were in: quotes, escapes and
/// blanks are ASCII in each of them.
#[must_use]
pub fn within(header: &[u8]) -> Cow<'_, [u8]> {
    let header = trim(header);
    unquoted(header).unwrap_or(Cow::Borrowed(header))
}

/// Without the quotes and escapes of a String; `None` for what begins like one and is none.
fn unquoted(header: &[u8]) -> Option<Cow<'_, [u8]>> {
    match header.split_first() {
        Some((b'"', rest)) => string(rest).map(Cow::Owned),
        _ => Some(Cow::Borrowed(header)),
    }
}

/// Without the blanks that HTTP allows around a value.
fn trim(header: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = header.iter().position(|byte| !is_blank(byte)).unwrap_or(header.len());
    let end = header.iter().rposition(|byte| !is_blank(byte)).map_or(start, |last| last + 1);
    &header[start..end]
}

/// What is left of a String behind its first quote, which must be all of the value.
fn string(rest: &[u8]) -> Option<Vec<u8>> {
    let mut key = Vec::with_capacity(rest.len());
    let mut bytes = rest.iter();
    loop {
        match bytes.next()? {
            b'"' => return bytes.next().is_none().then_some(key),
            b'\\' => match bytes.next()? {
                escaped @ (b'"' | b'\\') => key.push(*escaped),
                _ => return None,
            },
            byte @ b' '..=b'~' => key.push(*byte),
            _ => return None,
        }
    }
}

#[cfg(test)]
#[path = "../tests/http_key.rs"]
mod tests;
