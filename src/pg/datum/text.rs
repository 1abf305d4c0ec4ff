//! Text values, as the server spells them and in UTF-8.

use crate::pg::datum::encoding::to_utf8;
use crate::pg::datum::varlena;
use pgrx::pg_sys::Datum;

/// A text argument: the bytes as the server has them and as UTF-8, which is what is hashed and
/// measured, so that a key is the same key in a database of any encoding.
#[derive(Clone, Copy)]
pub struct Text<'a> {
    pub server: &'a [u8],
    pub utf8: &'a [u8],
    pub datum: Datum,
}

impl Text<'_> {
    /// Detoasts and, where the server's encoding is another, converts.
    ///
    /// # Safety
    /// `datum` must be a text or bytea that lives as long as `'a`, in the current memory context
    /// or an outer one.
    pub unsafe fn from_datum<'a>(datum: Datum) -> Text<'a> {
        // SAFETY: `datum` is a text or bytea that lives as long as `'a`, which this function demands.
        let server = unsafe { varlena::slice(datum) };
        // SAFETY: the result lives as long as `server` and the current context, and both as long as `'a`.
        Text { server, utf8: unsafe { to_utf8(server) }, datum }
    }
}
