//! What was asked: the canonical form of a request, and its fingerprint.

pub mod exclude;
pub mod fingerprint;
pub mod number;
pub mod token;
