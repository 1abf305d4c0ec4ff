//! What keys of an operation look like: any text, or UUIDs, of which every spelling is one key.

use crate::error::{Code, Error, Result};
use crate::identity::{Identity, literal, printable};
use crate::policy::KeyForm;

/// The length of `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
const LENGTH: usize = 36;
/// Digits of a UUID.
const DIGITS: usize = 32;

/// A UUID in lower case, with its hyphens: the spelling in which a key is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canonical([u8; LENGTH]);

impl Canonical {
    /// The UUID that `key` spells: as Postgres reads a `uuid`, which takes either case, braces around it, and a hyphen
    /// or none after each four digits; and with `urn:uuid:` (RFC 9562, section 4) before it.
    #[must_use]
    pub fn of(key: &[u8]) -> Option<Self> {
        let rest = without_urn(key).unwrap_or_else(|| without_braces(key));
        let (mut spelled, mut digits, mut ends_group) = ([b'-'; LENGTH], 0, false);
        for byte in rest {
            if *byte == b'-' {
                // As uuid_in: one hyphen after a group of four, and none after the last.
                if !ends_group || digits == DIGITS {
                    return None;
                }
                ends_group = false;
                continue;
            }
            if !byte.is_ascii_hexdigit() || digits == DIGITS {
                return None;
            }
            *spelled.get_mut(digits + hyphens_before(digits))? = byte.to_ascii_lowercase();
            digits += 1;
            ends_group = digits.is_multiple_of(4);
        }
        (digits == DIGITS).then_some(Self(spelled))
    }

    /// The spelling.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Digits and hyphens, which are text.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// How many hyphens stand before a digit.
fn hyphens_before(digit: usize) -> usize {
    [8, 12, 16, 20].iter().filter(|group| digit >= **group).count()
}

fn without_urn(key: &[u8]) -> Option<&[u8]> {
    const URN: &[u8] = b"urn:uuid:";
    let (urn, rest) = key.split_at_checked(URN.len())?;
    urn.eq_ignore_ascii_case(URN).then_some(rest)
}

fn without_braces(key: &[u8]) -> &[u8] {
    key.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}")).unwrap_or(key)
}

impl KeyForm {
    /// Whether a key may look like this.
    #[must_use]
    pub fn takes(self, key: &[u8]) -> bool {
        self == Self::Text || Canonical::of(key).is_some()
    }

    /// The spelling in which the key is kept, if that is another one.
    ///
    /// # Errors
    /// `ID006` for a key that has not this form.
    pub fn respell(self, identity: &Identity<'_>) -> Result<Option<Canonical>> {
        if self == Self::Text {
            return Ok(None);
        }
        let Some(canonical) = Canonical::of(identity.key()) else {
            return Err(no_uuid(identity));
        };
        Ok(Some(canonical).filter(|canonical| canonical.0 != identity.key()))
    }
}

fn no_uuid(identity: &Identity<'_>) -> Error {
    let typed = literal(identity.operation(), "operation");
    Error::new(Code::BadKey, "key must be a UUID")
        .detail(format!(
            "Operation \"{}\" has key_form 'uuid'. The key is \"{}\".",
            printable(identity.operation()),
            printable(identity.key())
        ))
        .hint(format!(
            "Pass a UUID, such as SELECT idempotent_new_key() makes, without quotes or blanks around it; or let any text \
            be a key: SELECT idempotent_operation({typed}, key_form => 'text')."
        ))
}

#[cfg(test)]
#[path = "tests/key_form.rs"]
mod tests;
