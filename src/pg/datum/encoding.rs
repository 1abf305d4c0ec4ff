//! Between the server's encoding and UTF-8, in which the domain and Rust think.

use crate::pg::raw;
use pgrx::pg_sys;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

const UTF8: i32 = pg_sys::pg_enc::PG_UTF8 as i32;
const SQL_ASCII: i32 = pg_sys::pg_enc::PG_SQL_ASCII as i32;

/// The same string in UTF-8; in an SQL_ASCII database, where the meaning of the bytes is unknown, the
/// bytes themselves.
///
/// # Safety
/// The result lives as long as its argument and the current memory context.
pub unsafe fn to_utf8(server: &[u8]) -> &[u8] {
    // SAFETY: as the caller says.
    unsafe { convert(server, |bytes, length| pg_sys::pg_server_to_any(bytes, length, UTF8)) }
}

/// Like [`to_utf8`], for callers that catch its errors themselves.
///
/// # Safety
/// As for [`to_utf8`], and for everything in `uncaught` that may raise an error.
pub unsafe fn to_utf8_uncaught(server: &[u8]) -> &[u8] {
    // SAFETY: as the caller says.
    unsafe { convert(server, |bytes, length| raw::pg_server_to_any(bytes, length, UTF8)) }
}

/// # Safety
/// As for the two above; `convert` is Postgres' function, in one of its guises.
unsafe fn convert(server: &[u8], convert: impl FnOnce(*const c_char, i32) -> *mut c_char) -> &[u8] {
    // SAFETY: `pg_server_to_any` reads `len` bytes and returns its argument unchanged or a
    // palloc'd, NUL-terminated conversion.
    unsafe {
        let encoding = raw::GetDatabaseEncoding();
        if encoding == UTF8 || encoding == SQL_ASCII {
            return server;
        }
        let Ok(length) = i32::try_from(server.len()) else { return server };
        let converted = convert(server.as_ptr().cast(), length);
        if converted.cast_const().cast() == server.as_ptr() {
            server
        } else {
            CStr::from_ptr(converted).to_bytes()
        }
    }
}

/// A palloc'd, NUL-terminated copy in the server's encoding; what that cannot spell becomes `?`.
pub fn to_server(text: &str) -> *mut c_char {
    let convert = |text: &str| {
        let text = CString::new(text.replace('\0', "?")).unwrap_or_default();
        let length = i32::try_from(text.as_bytes().len()).unwrap_or(0);
        // SAFETY: pstrdup copies a NUL-terminated string; pg_any_to_server reads `len` bytes and
        // returns its argument or a palloc'd conversion.
        unsafe { pg_sys::pg_any_to_server(pg_sys::pstrdup(text.as_ptr()), length, UTF8) }
    };
    catch_unwind(AssertUnwindSafe(|| convert(text))).unwrap_or_else(|_| {
        let ascii = |c: char| if c.is_ascii() { c } else { '?' };
        convert(&text.chars().map(ascii).collect::<String>())
    })
}
