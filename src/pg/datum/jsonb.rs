//! jsonb, read by its iterator and never as text.

use crate::pg::datum::encoding::{to_server, to_utf8, to_utf8_raw};
use crate::pg::datum::numeric;
use crate::pg::{raw, subtransaction};
use pgrx::pg_sys;
use pgrx::pg_sys::{Datum, JsonbIteratorToken, jbvType};
use rules::error::{Code, Error, Result};
use rules::request::exclude::Exclusions;
use rules::request::fingerprint::Canonical;
use rules::request::token::Token;
use std::ffi::CStr;

/// SHA-256 over the canonical form of a jsonb value, without the excluded members.
///
/// # Safety
/// `jsonb` must be a jsonb datum.
pub unsafe fn canonical_digest(jsonb: Datum, exclude: &Exclusions) -> [u8; 32] {
    let mut canonical = Canonical::new(exclude);
    let reading = Reading { jsonb, canonical: &raw mut canonical };
    // SAFETY: `jsonb` is a jsonb datum, which this function demands, and `canonical` outlives the reading.
    // The closure is Copy, and an error is resumed.
    let read = unsafe { subtransaction::call_keeping_error(|| reading.run()) };
    read.unwrap_or_else(|error| error.resume());
    canonical.finish()
}

/// A document that is about to be read. Nothing in its methods has a destructor where Postgres is
/// called: an error jumps over their frames.
#[derive(Clone, Copy)]
struct Reading<'e> {
    jsonb: Datum,
    /// Outlives the reading, and is its caller's alone.
    canonical: *mut Canonical<'e>,
}

impl Reading<'_> {
    /// # Safety
    /// `jsonb` must be a jsonb datum. It may raise an error past Rust: call it as `pg::raw` says.
    unsafe fn run(self) {
        // SAFETY: a detoasted jsonb has its root right behind the varlena header (utils/jsonb.h);
        // the iterator is advanced until it says WJB_DONE, and `value` is read as its type says.
        // What it points to is part of the jsonb or was palloc'd by the iterator, and is used at
        // once.
        unsafe {
            let canonical = &mut *self.canonical;
            let varlena = raw::pg_detoast_datum(self.jsonb.cast_mut_ptr());
            let root = (&raw mut (*varlena.cast::<pg_sys::Jsonb>()).root).cast();
            let mut iterator = raw::JsonbIteratorInit(root);
            let mut value: pg_sys::JsonbValue = std::mem::zeroed();
            // A scalar is stored as an array of one that says so; its brackets are not part of it.
            let mut is_scalar = false;
            loop {
                subtransaction::serve_interrupts();
                match raw::JsonbIteratorNext(&mut iterator, &mut value, false) {
                    JsonbIteratorToken::WJB_DONE => break,
                    JsonbIteratorToken::WJB_BEGIN_OBJECT => canonical.token(Token::BeginObject),
                    JsonbIteratorToken::WJB_END_OBJECT => canonical.token(Token::EndObject),
                    JsonbIteratorToken::WJB_BEGIN_ARRAY => {
                        if value.val.array.rawScalar {
                            is_scalar = true;
                        } else {
                            canonical.token(Token::BeginArray);
                        }
                    }
                    JsonbIteratorToken::WJB_END_ARRAY => {
                        if !is_scalar {
                            canonical.token(Token::EndArray);
                        }
                    }
                    JsonbIteratorToken::WJB_KEY => canonical.token(Token::Member(string(&value))),
                    _ => self.scalar(&value),
                }
            }
        }
    }

    /// # Safety
    /// `value` must be a scalar that the iterator gave. It may raise an error past Rust: call it as
    /// `pg::raw` says.
    unsafe fn scalar(self, value: &pg_sys::JsonbValue) {
        // SAFETY: `type_` says which member of the union the iterator has set; the value is its own, which
        // this function demands, and is read before the iterator moves on. `run` alone uses
        // `canonical` meanwhile.
        unsafe {
            let canonical = &mut *self.canonical;
            match value.type_ {
                jbvType::jbvString => canonical.token(Token::String(string(value))),
                jbvType::jbvNumeric => match numeric::digits(value.val.numeric) {
                    Some(digits) => canonical.token(Token::Digits(digits)),
                    // No JSON says so, but a function may have built it.
                    None => canonical.token(Token::Number(b"NaN")),
                },
                jbvType::jbvBool => canonical.token(Token::Bool(value.val.boolean)),
                _ => canonical.token(Token::Null),
            }
        }
    }
}

/// # Safety
/// `value` must be a string (or a key), and its bytes must outlive the result. It may raise an error past
/// Rust: call it as `pg::raw` says.
unsafe fn string<'a>(value: &pg_sys::JsonbValue) -> &'a [u8] {
    // SAFETY: `value` is a string, which this function demands, so the union holds `len` bytes at `val`.
    unsafe {
        let string = value.val.string;
        let length = usize::try_from(string.len).unwrap_or(0);
        to_utf8_raw(std::slice::from_raw_parts(string.val.cast(), length))
    }
}

/// Whether two jsonb values are equal (as SQL's `=` says, so by value and not by spelling).
///
/// # Safety
/// Both must be jsonb datums.
pub unsafe fn equal(left: Datum, right: Datum) -> bool {
    // SAFETY: jsonb_eq takes two jsonb datums, and this function demands that both are.
    let equal = unsafe {
        pgrx::direct_function_call_as_datum(pg_sys::jsonb_eq, &[Some(left), Some(right)])
    };
    equal.is_some_and(|equal| equal.value() != 0)
}

/// The text of a jsonb value, in UTF-8.
///
/// # Safety
/// `jsonb` must be a jsonb datum; the text lives as long as the current memory context.
pub unsafe fn text<'a>(jsonb: Datum) -> &'a [u8] {
    // SAFETY: jsonb_out takes a jsonb and returns a palloc'd, NUL-terminated string.
    let text = unsafe { pgrx::direct_function_call_as_datum(pg_sys::jsonb_out, &[Some(jsonb)]) };
    let Some(text) = text else { return &[] };
    // SAFETY: that string, which is not freed before its memory context.
    unsafe { to_utf8(CStr::from_ptr(text.cast_mut_ptr()).to_bytes()) }
}

/// A jsonb value from its text.
fn parse(text: &str) -> Option<Datum> {
    let text = Datum::from(to_server(text));
    // SAFETY: jsonb_in takes a cstring in the server's encoding, which `to_server` has made, and copies
    // what it needs.
    unsafe { pgrx::direct_function_call_as_datum(pg_sys::jsonb_in, &[Some(text)]) }
}

/// A jsonb value of what serde can write (for what is not hot).
pub fn of(value: &(impl serde::Serialize + ?Sized)) -> Result<Option<Datum>> {
    let text = serde_json::to_string(value).map_err(|error| {
        Error::new(Code::InvalidParameter, "could not build a jsonb value")
            .detail(error.to_string())
    })?;
    Ok(parse(&text))
}
