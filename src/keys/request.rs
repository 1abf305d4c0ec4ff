//! What a claim asks for.

use crate::pg::datum::jsonb;
use crate::pg::limit::Limit;
use crate::settings;
use pgrx::pg_sys::Datum;
use rules::policy::Policy;
use rules::request::exclude::Exclusions;
use rules::request::fingerprint::Fingerprint;
use rules::request::http::HttpRequest;
use rules::{Micros, Timestamp};

/// What a claim asks for.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Of the request; `None` when it is null, which is a value of its own.
    pub fingerprint: Option<Fingerprint>,
    /// The request itself, if that was given.
    pub document: Option<Document<'a>>,
    /// `None`: held by the transaction.
    pub lease: Option<Micros>,
    pub wait: Micros,
    /// When the caller says that the key was first sent.
    pub first_sent: Option<Timestamp>,
    /// The caller's name for the attempt.
    pub attempt_id: Option<[u8; 16]>,
}

/// A request, of which a fingerprint can be taken.
#[derive(Clone, Copy)]
pub enum Document<'a> {
    /// The argument `request` of a declaration, of the kind `Jsonb`.
    Jsonb(Datum),
    Http(&'a HttpRequest<'a>),
}

impl Document<'_> {
    /// Without the members that the set of exclusions names, which has this number.
    fn fingerprint(self, exclude: &Exclusions, set: i16) -> Fingerprint {
        match self {
            // SAFETY: the variant holds an argument of the kind `Jsonb`, which is a jsonb.
            Self::Jsonb(request) => unsafe {
                Fingerprint::of_canonical(jsonb::canonical_digest(request, exclude), set)
            },
            Self::Http(request) => request.fingerprint(exclude, set),
        }
    }
}

/// The fingerprint of a jsonb request, as the operation wants it taken.
pub fn fingerprint(request: Option<Datum>, policy: &Policy) -> Option<Fingerprint> {
    let set = policy.exclusion_set;
    request.map(|request| Document::Jsonb(request).fingerprint(&policy.exclude, set))
}

/// The fingerprints of a jsonb request, as the operation wants it taken, and has.
pub fn fingerprints(request: Option<Datum>, policy: &Policy) -> impl Iterator<Item = Fingerprint> {
    let now = std::iter::once((policy.exclusion_set, &policy.exclude));
    let earlier = policy.earlier_exclusions.iter().map(|(set, exclude)| (*set, exclude));
    now.chain(earlier).filter_map(move |(set, exclude)| {
        request.map(|request| Document::Jsonb(request).fingerprint(exclude, set))
    })
}

/// Whether a stored fingerprint was made with a set of exclusions that these settings do not know: they have
/// changed since they were read.
pub fn is_newer(asked: Option<Fingerprint>, stored: Option<Fingerprint>, policy: &Policy) -> bool {
    let (Some(mine), Some(stored)) = (asked, stored) else { return false };
    let set = mine.exclusions().and(stored.exclusions());
    mine.version != stored.version && set.is_some_and(|set| policy.exclusions(set).is_none())
}

/// The fingerprint of a request, to be compared with one that is stored: made with the set of
/// exclusions that the stored one was made with.
pub fn to_compare(
    asked: Option<Fingerprint>,
    request: Option<Document<'_>>,
    stored: Option<Fingerprint>,
    policy: &Policy,
) -> Option<Fingerprint> {
    let (Some(mine), Some(stored)) = (asked, stored) else { return asked };
    if mine.version == stored.version {
        return asked;
    }
    let set = mine.exclusions().and(stored.exclusions());
    let exclude = set.and_then(|set| policy.exclusions(set).map(|exclude| (set, exclude)));
    match (request, exclude) {
        (Some(request), Some((set, exclude))) => Some(request.fingerprint(exclude, set)),
        _ => asked,
    }
}

/// The limit of a call that waits as it says itself, else as the setting says: what its operation says is not
/// yet known.
pub fn limit(given: Option<Micros>) -> Limit {
    Limit::begin(given.unwrap_or_else(settings::default_wait))
}

/// How long to wait: as the call says, else as its operation, else as the setting.
pub fn wait(given: Option<Micros>, policy: &Policy) -> Micros {
    given.or(policy.wait).unwrap_or_else(settings::default_wait)
}
