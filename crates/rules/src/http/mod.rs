//! Idempotency over HTTP: the key's header, what is kept of an answer, and what is answered instead.
//!
//! After `draft-ietf-httpapi-idempotency-key-header`, RFC 8941 (the key), RFC 9110 (methods, status,
//! headers) and RFC 9457 (problems). What of a request counts is in [`crate::request::http`].

pub mod headers;
pub mod keep;
pub mod key;
pub mod problem;

use crate::error::Result;
use headers::HeaderRules;
use keep::StoreRules;

/// What an operation's owner decided about HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpPolicy {
    /// What becomes of an answer, by its status.
    pub store: StoreRules,
    /// Which headers of it are kept.
    pub headers: HeaderRules,
}

impl HttpPolicy {
    /// Reads the settings `http_store` and `http_headers`.
    ///
    /// # Errors
    /// `22023` for an entry that means nothing.
    pub fn parse<E: AsRef<[u8]>>(store: Vec<E>, headers: Vec<E>) -> Result<Self> {
        Ok(Self { store: StoreRules::parse(store)?, headers: HeaderRules::parse(headers)? })
    }
}
