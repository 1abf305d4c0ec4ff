//! Values made by us.

use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::Micros;
use rules::error::{Code, Error, Result};

/// A text of ours with the one-byte header of a short varlena (varatt.h).
#[derive(Clone, Copy)]
pub struct ShortText([u8; 16]);

impl ShortText {
    /// Made while compiling, where a text that is too long is an error.
    pub const fn of(text: &str) -> Self {
        let (from, mut bytes, mut at) = (text.as_bytes(), [0; 16], 0);
        while at < from.len() {
            bytes[at + 1] = from[at];
            at += 1;
        }
        let length = (from.len() + 1) as u8;
        bytes[0] = if cfg!(target_endian = "little") { (length << 1) | 1 } else { length | 0x80 };
        Self(bytes)
    }

    /// It lasts as long as the library.
    pub fn datum(&'static self) -> Datum {
        Datum::from(self.0.as_ptr())
    }
}

/// A palloc'd text.
pub fn text(text: &str) -> Datum {
    let length = i32::try_from(text.len()).unwrap_or(0);
    // SAFETY: cstring_to_text_with_len copies `length` bytes of `text`, which has as many. (Texts of ours are
    // ASCII, so they are the same in every encoding of a server.)
    Datum::from(unsafe { pg_sys::cstring_to_text_with_len(text.as_ptr().cast(), length) })
}

/// A palloc'd value of a varlena type: a bytea, or a text in the server's encoding.
///
/// # Errors
/// 54000 for more than Postgres can hold.
pub fn varlena(bytes: &[u8]) -> Result<Datum> {
    let length = i32::try_from(bytes.len()).map_err(|_| {
        Error::new(Code::LimitExceeded, "a value is too large")
            .detail(format!("It has {} bytes.", bytes.len()))
            .hint("Keep smaller answers: idempotent_operation(..., max_response_bytes => ...).")
    })?;
    // SAFETY: copies `length` bytes; a bytea is laid out as a text is.
    Ok(Datum::from(unsafe { pg_sys::cstring_to_text_with_len(bytes.as_ptr().cast(), length) }))
}

/// A slot, as the `smallint` of the tables: it is at most 16383.
pub fn slot(slot: u16) -> Datum {
    Datum::from(slot.cast_signed())
}

/// A palloc'd uuid.
pub fn uuid(bytes: [u8; 16]) -> Datum {
    // SAFETY: palloc gives as many bytes as the array has, or raises an error.
    unsafe {
        let copy: *mut [u8; 16] = pg_sys::palloc(bytes.len()).cast();
        copy.write(bytes);
        Datum::from(copy)
    }
}

/// A uuid as SQL shows it.
pub fn uuid_text(bytes: [u8; 16]) -> String {
    let hex = |range: std::ops::Range<usize>| -> String {
        bytes[range].iter().map(|byte| format!("{byte:02x}")).collect()
    };
    [hex(0..4), hex(4..6), hex(6..8), hex(8..10), hex(10..16)].join("-")
}

/// A palloc'd interval of microseconds alone.
pub fn interval(micros: Micros) -> Datum {
    // SAFETY: palloc gives as many bytes as an Interval has, maximally aligned, or raises an error.
    unsafe {
        let copy: *mut pg_sys::Interval = pg_sys::palloc(size_of::<pg_sys::Interval>()).cast();
        copy.write(pg_sys::Interval { time: micros, day: 0, month: 0 });
        Datum::from(copy)
    }
}
