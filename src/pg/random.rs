//! Random bytes, from where Postgres takes its own.

use pgrx::pg_sys;
use rules::error::{Code, Error, Result};

/// Bytes that cannot be guessed.
pub fn bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: pg_strong_random writes `N` bytes, the size of `bytes`.
    if unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), N) } {
        return Ok(bytes);
    }
    Err(Error::new(Code::ObjectNotReady, "could not generate random values")
        .hint("The operating system gave none; try again."))
}
