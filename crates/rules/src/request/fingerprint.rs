//! What was asked, in 128 bits: equal requests have equal fingerprints, however they are spelled.

use sha2::{Digest, Sha256};

use crate::request::exclude::{Exclusions, Tracker};
use crate::request::number::{Digits, Number};
use crate::request::token::Token;

/// Canonical `jsonb`, as [`Canonical`] reads it.
pub const JSON_V1: i16 = 1;
/// A version is that of the algorithm, and this many times the number of a set of exclusions.
const SETS: i16 = 8;
/// The highest number of a set of exclusions.
pub const LAST_SET: i16 = i16::MAX / SETS - 1;
/// Bytes that the caller gave instead of a request.
pub const CALLER_V1: i16 = 2;
/// A request of HTTP, as [`crate::request::http`] reads it.
pub const HTTP_V1: i16 = 3;

/// A digest and the algorithm that made it. Both are stored with a record.
///
/// Digests of different versions say nothing about each other, so such fingerprints are unequal:
/// when a new version comes, a comparison with an old record digests the request with the
/// record's version first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fingerprint {
    /// [`JSON_V1`] or [`HTTP_V1`], with the number of a set of exclusions, or [`CALLER_V1`], or 0 for
    /// [`Fingerprint::ANY`].
    pub version: i16,
    /// The first 16 bytes of a SHA-256.
    pub digest: [u8; 16],
}

impl Fingerprint {
    /// That of a record whose request was lost: every request counts as the same.
    pub const ANY: Self = Self { version: 0, digest: [0; 16] };

    /// Of bytes that the caller chose to stand for the request.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self::new(CALLER_V1, Sha256::digest(bytes).into())
    }

    /// Of a document that a [`Canonical`] has read, without the members of the operation's set of
    /// exclusions with this number; 0 is the empty set.
    #[must_use]
    pub fn of_canonical(digest: [u8; 32], exclusions: i16) -> Self {
        Self::new(JSON_V1 + exclusions.clamp(0, LAST_SET) * SETS, digest)
    }

    /// The number of the set of exclusions with which it was made; `None` for bytes of the caller.
    #[must_use]
    pub fn exclusions(&self) -> Option<i16> {
        matches!(self.version % SETS, JSON_V1 | HTTP_V1).then_some(self.version / SETS)
    }

    /// Of a request of HTTP, digested without the members of that set.
    #[must_use]
    pub fn of_http(digest: [u8; 32], exclusions: i16) -> Self {
        Self::new(HTTP_V1 + exclusions.clamp(0, LAST_SET) * SETS, digest)
    }

    fn new(version: i16, sha256: [u8; 32]) -> Self {
        let mut digest = [0; 16];
        digest.copy_from_slice(&sha256[..16]);
        Self { version, digest }
    }
}

/// How much is gathered before it is hashed: most requests are hashed in one go.
const BUFFER: usize = 512;

/// Digests a JSON document piece by piece, without recursion and in constant memory, whatever its
/// depth.
///
/// The members of an object must arrive in one agreed order, each name once: `jsonb`'s storage
/// order, by length and then by bytes, does. A scalar document is its one token (`jsonb` wraps it
/// in an array of its own, which is not part of the document).
///
/// What is hashed is the version, then for each token a tag and what it needs to end where it ends,
/// so that no two documents share a stream of bytes:
///
/// | token | bytes |
/// |---|---|
/// | objects, arrays | `{` `}` `[` `]` |
/// | member, string | `k` or `"`, length, bytes |
/// | zero | `0` |
/// | other numbers | `+` or `-`, count of digits, digits, exponent |
/// | true, false, null | `t` `f` `n` |
///
/// The digits of a number come without zeros at either end, and its exponent is the power of ten
/// that the last of them counts: nothing is expanded and nothing rounded. Lengths are LEB128;
/// exponents too, zigzag. The text of a value that is not a decimal number, which `jsonb` never holds, stands
/// for itself behind `r` and a length.
pub struct Canonical<'e> {
    hasher: Sha256,
    buffer: [u8; BUFFER],
    filled: usize,
    /// Only when something is excluded.
    tracker: Option<Tracker<'e>>,
}

impl<'e> Canonical<'e> {
    /// Starts a document, of which `exclude` will not count.
    #[must_use]
    pub fn new(exclude: &'e Exclusions) -> Self {
        let mut canonical = Self {
            hasher: Sha256::new(),
            buffer: [0; BUFFER],
            filled: 0,
            tracker: (!exclude.is_empty()).then(|| Tracker::new(exclude)),
        };
        canonical.write(&JSON_V1.to_be_bytes());
        canonical
    }

    /// Takes the next piece.
    pub fn token(&mut self, token: Token<'_>) {
        if let Some(tracker) = &mut self.tracker
            && !tracker.admits(token)
        {
            return;
        }
        match token {
            Token::BeginObject => self.write(b"{"),
            Token::EndObject => self.write(b"}"),
            Token::BeginArray => self.write(b"["),
            Token::EndArray => self.write(b"]"),
            Token::Member(name) => self.text(b'k', name),
            Token::String(text) => self.text(b'"', text),
            Token::Number(text) => self.number(text),
            Token::Digits(digits) => self.digits(digits),
            Token::Bool(true) => self.write(b"t"),
            Token::Bool(false) => self.write(b"f"),
            Token::Null => self.write(b"n"),
        }
    }

    /// Ends the document: the whole SHA-256, for [`Fingerprint::of_canonical`].
    #[must_use]
    pub fn finish(mut self) -> [u8; 32] {
        self.flush();
        self.hasher.finalize().into()
    }

    fn number(&mut self, text: &[u8]) {
        match Number::parse(text) {
            Some(Number::Zero) => self.write(b"0"),
            Some(Number::Decimal { negative, digits, count, exponent }) => {
                self.write(if negative { b"-" } else { b"+" });
                self.varint(count as u64);
                // At most two pieces: a point is no digit.
                for piece in digits.split(|&byte| byte == b'.') {
                    self.write(piece);
                }
                self.exponent(exponent);
            }
            None => self.text(b'r', text),
        }
    }

    fn digits(&mut self, digits: Digits<'_>) {
        let Some(significant) = digits.significant() else {
            return self.write(b"0");
        };
        self.write(if digits.negative { b"-" } else { b"+" });
        self.varint(significant.count() as u64);
        significant.write(|decimals| self.write(decimals));
        self.exponent(significant.exponent);
    }

    fn exponent(&mut self, exponent: i64) {
        self.varint(((exponent << 1) ^ (exponent >> 63)).cast_unsigned());
    }

    fn text(&mut self, tag: u8, text: &[u8]) {
        self.write(&[tag]);
        self.varint(text.len() as u64);
        self.write(text);
    }

    /// LEB128: seven bits a byte, the lowest first.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.write(&[low_byte(value) | 0x80]);
            value >>= 7;
        }
        self.write(&[low_byte(value)]);
    }

    fn write(&mut self, bytes: &[u8]) {
        if bytes.len() > BUFFER - self.filled {
            self.flush();
            if bytes.len() > BUFFER {
                self.hasher.update(bytes);
                return;
            }
        }
        self.buffer[self.filled..self.filled + bytes.len()].copy_from_slice(bytes);
        self.filled += bytes.len();
    }

    fn flush(&mut self) {
        self.hasher.update(&self.buffer[..self.filled]);
        self.filled = 0;
    }
}

fn low_byte(value: u64) -> u8 {
    value.to_le_bytes()[0]
}

#[cfg(test)]
#[path = "../tests/fingerprint.rs"]
mod tests;
