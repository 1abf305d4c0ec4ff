//! numeric, read as it is stored and never as text: `1e131071` takes ten bytes, and its text 128 kB.

use crate::pg::raw;
use pgrx::pg_sys;
use rules::request::number::Digits;

// The first half-word says how the rest is laid out (utils/adt/numeric.c).
const SIGN_MASK: u16 = 0xc000;
const NEGATIVE: u16 = 0x4000;
const SHORT: u16 = 0x8000;
const SPECIAL: u16 = 0xc000;
const SHORT_NEGATIVE: u16 = 0x2000;
const SHORT_WEIGHT_NEGATIVE: u16 = 0x0040;
const SHORT_WEIGHT_MASK: u16 = 0x003f;

/// The digits of a number; `None` for NaN and the infinities.
///
/// # Safety
/// `number` must be a numeric that outlives `'a`, as must the current memory context. It may raise an
/// error past Rust: call it as `pg::raw` says.
pub unsafe fn digits<'a>(number: pg_sys::Numeric) -> Option<Digits<'a>> {
    // SAFETY: `number` is a numeric, which this function demands. What detoasting gives has a header of four
    // bytes and is aligned for ints, and its length counts whole half-words: the numeric's header, in the
    // long form the weight, and digits up to the end (numeric.c).
    unsafe {
        let varlena = raw::pg_detoast_datum(number.cast());
        let length = pgrx::varlena::varsize_4b(varlena) - size_of::<u32>();
        let data = varlena.cast::<u8>().add(size_of::<u32>()).cast::<u16>();
        let words = std::slice::from_raw_parts(data, length / size_of::<u16>());
        let (&header, rest) = words.split_first()?;
        let (negative, weight, digits) = match header & SIGN_MASK {
            SPECIAL => return None,
            SHORT => (header & SHORT_NEGATIVE != 0, short_weight(header), rest),
            sign => {
                let (&weight, digits) = rest.split_first()?;
                (sign == NEGATIVE, weight.cast_signed(), digits)
            }
        };
        let digits = std::slice::from_raw_parts(digits.as_ptr().cast::<i16>(), digits.len());
        Some(Digits { negative, digits, weight })
    }
}

/// Seven bits, the highest of which is its sign.
fn short_weight(header: u16) -> i16 {
    let weight = header & SHORT_WEIGHT_MASK;
    let sign = if header & SHORT_WEIGHT_NEGATIVE != 0 { !SHORT_WEIGHT_MASK } else { 0 };
    (weight | sign).cast_signed()
}
