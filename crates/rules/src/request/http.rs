//! A request of HTTP: what of it counts, and its fingerprint.

use crate::error::{Code, Error, Result};
use crate::request::exclude::Exclusions;
use crate::request::fingerprint::{Canonical, Fingerprint, HTTP_V1};
use crate::request::{form, json};
use sha2::{Digest, Sha256};

/// How many bytes are digested between two looks up.
const PIECE: usize = 1024 * 1024;

/// What of a request counts. Headers do not: they differ from one attempt to the next.
#[derive(Clone, Copy, Debug)]
pub struct HttpRequest<'a> {
    method: &'a [u8],
    target: &'a [u8],
    content_type: Option<&'a [u8]>,
    body: &'a [u8],
    /// Called now and then while the body is worked on, to end that by a panic where it is not wanted any more.
    look_up: fn(),
}

impl<'a> HttpRequest<'a> {
    /// # Errors
    /// `22023` for a method or target that HTTP does not know.
    pub fn new(
        method: Option<&'a [u8]>,
        target: Option<&'a [u8]>,
        content_type: Option<&'a [u8]>,
        body: &'a [u8],
    ) -> Result<Self> {
        let refuse = |problem: &str, detail: &str, hint: &str| {
            Error::new(Code::InvalidParameter, problem).detail(detail).hint(hint)
        };
        let method = method.filter(|method| is_token(method)).ok_or_else(|| {
            refuse(
                "method must be a method of HTTP",
                "It is null or empty, or has a letter that no method has.",
                "Pass it as it was sent: method => 'POST'.",
            )
        })?;
        let target = target.filter(|target| !target.is_empty()).ok_or_else(|| {
            refuse(
                "target must not be null or empty",
                "The target is the path and the query of a request.",
                "Pass them as they were sent: target => '/pay?currency=eur'.",
            )
        })?;
        Ok(Self { method, target, content_type, body, look_up: || () })
    }

    /// The same, with what is called now and then while the body is worked on.
    #[must_use]
    pub fn looking_up(self, look_up: fn()) -> Self {
        Self { look_up, ..self }
    }

    /// Whether the answer to this request has no body, whatever it is.
    #[must_use]
    pub fn is_head(&self) -> bool {
        self.method == b"HEAD"
    }

    /// How much memory the fingerprint can take.
    #[must_use]
    pub fn memory(&self) -> usize {
        match self.kind() {
            Kind::Json => json::memory(self.body),
            // Each field is at least a byte and a separator, and becomes two strings.
            Kind::Form => self.body.len().saturating_mul(64),
            Kind::Bytes => 0,
        }
    }

    /// The fingerprint, without what `exclude` says does not count: members of JSON, fields of a form.
    #[must_use]
    pub fn fingerprint(&self, exclude: &Exclusions, set: i16) -> Fingerprint {
        let media = self.media_type();
        let mut digest = Sha256::new();
        digest.update(HTTP_V1.to_be_bytes());
        part(&mut digest, self.method);
        part(&mut digest, self.target);
        part(&mut digest, &media);
        match self.kind() {
            Kind::Json => match json::Document::parse(self.body, self.look_up) {
                Some(document) => {
                    let mut canonical = Canonical::new(exclude);
                    document.emit(|token| canonical.token(token));
                    digest.update(b"j");
                    digest.update(canonical.finish());
                }
                None => self.bytes(&mut digest),
            },
            Kind::Form => {
                digest.update(b"f");
                for (name, value) in form::fields(self.body) {
                    if !exclude.excludes(&name) {
                        part(&mut digest, &name);
                        part(&mut digest, &value);
                    }
                }
            }
            Kind::Bytes => self.bytes(&mut digest),
        }
        Fingerprint::of_http(digest.finalize().into(), set)
    }

    fn bytes(&self, digest: &mut Sha256) {
        digest.update(b"b");
        for piece in self.body.chunks(PIECE) {
            digest.update(piece);
            (self.look_up)();
        }
    }

    /// The type and subtype, in lower case, without parameters.
    fn media_type(&self) -> Vec<u8> {
        let given = self.content_type.unwrap_or_default();
        let end = given.iter().position(|&byte| byte == b';').unwrap_or(given.len());
        given[..end].trim_ascii().to_ascii_lowercase()
    }

    fn kind(&self) -> Kind {
        let media = self.media_type();
        if media == b"application/json" || media.ends_with(b"+json") {
            Kind::Json
        } else if media == b"application/x-www-form-urlencoded" {
            Kind::Form
        } else {
            Kind::Bytes
        }
    }
}

/// How a body is compared.
enum Kind {
    /// By value, or by its bytes if it is none that `jsonb` takes.
    Json,
    /// By its fields.
    Form,
    /// Byte for byte.
    Bytes,
}

/// With its length, so that no two sequences of parts share their bytes.
fn part(digest: &mut Sha256, part: &[u8]) {
    digest.update((part.len() as u64).to_be_bytes());
    digest.update(part);
}

/// A `token` of RFC 9110: a method, or the name of a header.
#[must_use]
pub fn is_token(text: &[u8]) -> bool {
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_letter)
}

#[cfg(test)]
#[path = "../tests/http_request.rs"]
mod tests;
