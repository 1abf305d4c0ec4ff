//! What a claim asks for.

use crate::pg::datum::jsonb;
use crate::settings;
use pgrx::pg_sys::Datum;
use rules::policy::Policy;
use rules::request::fingerprint::Fingerprint;
use rules::{Micros, Timestamp};

/// What a claim asks for.
#[derive(Clone, Copy)]
pub struct Request {
    /// Of the request; `None` when it is null, which is a value of its own.
    pub fingerprint: Option<Fingerprint>,
    /// `None`: held by the transaction.
    pub lease: Option<Micros>,
    pub wait: Micros,
    /// When the caller says that the key was first sent.
    pub first_sent: Option<Timestamp>,
    /// The caller's name for the attempt.
    pub attempt_id: Option<[u8; 16]>,
}

/// The fingerprint of a jsonb request, as the operation wants it taken.
pub fn fingerprint(request: Option<Datum>, policy: &Policy) -> Option<Fingerprint> {
    // SAFETY: every caller passes the argument `request` of a declaration, of the kind `Jsonb`.
    request.map(|jsonb| unsafe {
        Fingerprint::of_canonical(jsonb::canonical_digest(jsonb, &policy.exclude))
    })
}

/// How long to wait: as the call says, else as its operation, else as the setting.
pub fn wait(given: Option<Micros>, policy: &Policy) -> Micros {
    given.or(policy.wait).unwrap_or_else(settings::default_wait)
}
