//! Between the server's encoding and UTF-8, which the rules and Rust use.

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
    // SAFETY: pg_server_to_any is the converter that `convert` demands; what it pallocs lives as long as the
    // current context, which this function tells its caller.
    unsafe { convert(server, |bytes, length| pg_sys::pg_server_to_any(bytes, length, UTF8)) }
}

/// Like [`to_utf8`], for callers that catch its errors themselves.
///
/// # Safety
/// As for [`to_utf8`]. It may raise an error past Rust: call it as `pg::raw` says.
pub unsafe fn to_utf8_raw(server: &[u8]) -> &[u8] {
    // SAFETY: pg_server_to_any is the converter that `convert` demands, and this function demands of its
    // caller what `raw` does.
    unsafe { convert(server, |bytes, length| raw::pg_server_to_any(bytes, length, UTF8)) }
}

/// # Safety
/// `convert` must be `pg_server_to_any`, guarded or raw; the result lives as long as `server` and the
/// current memory context.
unsafe fn convert(server: &[u8], convert: impl FnOnce(*const c_char, i32) -> *mut c_char) -> &[u8] {
    // SAFETY: `convert` is pg_server_to_any, which this function demands: it reads `length` bytes and
    // returns its argument or a palloc'd, NUL-terminated conversion.
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

/// A palloc'd, NUL-terminated copy in the server's encoding; a character that it lacks becomes `?`.
pub fn to_server(text: &str) -> *mut c_char {
    let convert = |text: &str| {
        let text = CString::new(text.replace('\0', "?")).unwrap_or_default();
        let length = i32::try_from(text.as_bytes().len()).unwrap_or(0);
        // SAFETY: pstrdup copies the NUL-terminated string, so the result does not point to `text`;
        // pg_any_to_server reads `length` bytes of the copy and returns it or a palloc'd conversion.
        unsafe { pg_sys::pg_any_to_server(pg_sys::pstrdup(text.as_ptr()), length, UTF8) }
    };
    catch_unwind(AssertUnwindSafe(|| convert(text))).unwrap_or_else(|_| {
        let ascii = |c: char| if c.is_ascii() { c } else { '?' };
        convert(&text.chars().map(ascii).collect::<String>())
    })
}
