//! The identity of a key: (operation, scope, key), and the one digest with three uses.
//!
//! All three are bytes: UTF-8, whatever the server's encoding, or raw bytes in an `SQL_ASCII`
//! database, where what they spell is unknown. So validity is never assumed.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::names::{KEY, MAX_KEY, OPERATION, SCOPE, check};
use crate::slot;
use crate::uuid7;

/// 128 bits of SHA-256 over the identity: primary key, advisory lock and the root of downstream keys.
/// The first 48 bits of a `UUIDv7`'s are its milliseconds: see [`Identity::record_id`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct RecordId(pub [u8; 16]);

impl RecordId {
    /// The two numbers of the advisory lock's tag: the last 8 bytes, big endian, which are of the digest
    /// whatever the key is.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // Cut in two.
    pub fn lock_key(self) -> (u32, u32) {
        let last = u128::from_be_bytes(self.0) as u64;
        ((last >> 32) as u32, last as u32)
    }

    /// A key for a downstream call: always the same for the same record and label, and telling
    /// nothing of either. It has the shape of a UUID of version 8 (RFC 9562, section 5.8), so it is
    /// never mistaken for one that carries a date.
    #[must_use]
    pub fn derive(self, label: &[u8]) -> [u8; 16] {
        let digest = Sha256::new()
            // Keeps derived keys apart from record ids and from every other digest of ours.
            .chain_update(b"pg_idempotent derived key 1\0")
            .chain_update(self.0)
            .chain_update((label.len() as u64).to_be_bytes())
            .chain_update(label)
            .finalize();
        let mut uuid = first_half(digest.into());
        uuid[6] = (uuid[6] & 0x0f) | 0x80;
        uuid[8] = (uuid[8] & 0x3f) | 0x80;
        uuid
    }
}

/// A checked identity: its parts are within the rules.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    operation: &'a [u8],
    scope: &'a [u8],
    key: &'a [u8],
}

impl<'a> Identity<'a> {
    /// Checks the parts as SQL gave them (`None` is null): operation 1 to 255 bytes, scope 0 to
    /// 255, key 1 to 255, all without control characters.
    ///
    /// # Errors
    /// `ID006` for the first part that breaks a rule.
    pub fn new(
        operation: Option<&'a [u8]>,
        scope: Option<&'a [u8]>,
        key: Option<&'a [u8]>,
    ) -> Result<Self> {
        Ok(Self {
            operation: check_operation(operation)?,
            scope: check(&SCOPE, scope)?,
            key: check(&KEY, key)?,
        })
    }

    /// What must happen once.
    #[must_use]
    pub fn operation(&self) -> &'a [u8] {
        self.operation
    }

    /// The owner of the key; empty where keys have none.
    #[must_use]
    pub fn scope(&self) -> &'a [u8] {
        self.scope
    }

    /// The caller's key.
    #[must_use]
    pub fn key(&self) -> &'a [u8] {
        self.key
    }

    /// The slot of the owner.
    #[must_use]
    pub fn slot(&self) -> u16 {
        slot::of(slot::owner(self.scope, self.key))
    }

    /// The first 16 bytes of SHA-256 over operation, scope and key, in this order, each behind its
    /// length as four bytes, big endian: no two identities share an input.
    ///
    /// Where the key is a `UUIDv7`, by the rule of [`crate::dating::key_date`], its milliseconds take the
    /// place of the first six bytes, big endian: such records lie in the index in the order of time,
    /// and not one on each page of it.
    #[must_use]
    pub fn record_id(&self) -> RecordId {
        let mut hasher = Sha256::new();
        for part in [self.operation, self.scope, self.key] {
            // At most 255 bytes, by the check.
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
            hasher.update(length.to_be_bytes());
            hasher.update(part);
        }
        let mut id = first_half(hasher.finalize().into());
        if let Some(milliseconds) = uuid7::milliseconds(self.key) {
            id[..6].copy_from_slice(&milliseconds.to_be_bytes()[2..]);
        }
        RecordId(id)
    }

    /// For a DETAIL: `operation "charge", scope "t1", key "k"`. What does not print, or would turn
    /// the line around, is escaped; bytes that are no text are replaced.
    #[must_use]
    pub fn describe(&self) -> String {
        format!(
            "operation \"{}\", scope \"{}\", key \"{}\"",
            printable(self.operation),
            printable(self.scope),
            printable(self.key)
        )
    }

    /// A call to type, for a HINT: `SELECT function('charge', 'k', middle, scope => 't1')`.
    ///
    /// `middle` goes between key and scope, as it stands. A part that cannot be typed as it is
    /// becomes its name in angle brackets.
    #[must_use]
    pub fn call(&self, function: &str, middle: &str) -> String {
        let mut sql = format!(
            "SELECT {function}({}, {}",
            literal(self.operation, "operation"),
            literal(self.key, "key")
        );
        if !middle.is_empty() {
            sql.push_str(", ");
            sql.push_str(middle);
        }
        if !self.scope.is_empty() {
            sql.push_str(", scope => ");
            sql.push_str(&literal(self.scope, "scope"));
        }
        sql.push(')');
        sql
    }
}

/// Checks an operation's name on its own: 1 to 255 bytes, no control characters.
///
/// # Errors
/// `ID006` when it is null, empty, too long or holds a control character.
pub fn check_operation(name: Option<&[u8]>) -> Result<&[u8]> {
    check(&OPERATION, name)
}

/// Text that can stand between double quotes in one line of a message.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(MAX_KEY)];
    let mut text = String::with_capacity(shown.len());
    for c in String::from_utf8_lossy(shown).chars() {
        if c == '"' || c == '\\' {
            text.push('\\');
            text.push(c);
        } else if disturbs(c) {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\u{{{:x}}}", u32::from(c));
        } else {
            text.push(c);
        }
    }
    if shown.len() < bytes.len() {
        text.push_str("...");
    }
    text
}

/// Characters that would break a log line or change how it reads: controls, line and paragraph
/// separators, marks and overrides of direction.
fn disturbs(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// An SQL literal that is exactly these bytes, or `<name>` where none can be typed.
pub(crate) fn literal(bytes: &[u8], name: &str) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(disturbs) => format!("'{}'", text.replace('\'', "''")),
        _ => format!("<{name}>"),
    }
}

fn first_half(digest: [u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    half
}

#[cfg(test)]
#[path = "tests/identity.rs"]
mod tests;
