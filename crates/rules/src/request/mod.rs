//! What was asked: the canonical form of a request, and its fingerprint.

pub mod exclude;
pub mod fingerprint;
pub mod form;
pub mod http;
pub mod json;
pub mod number;
pub mod token;
