//! A key that is a `UUIDv7`: RFC 9562, section 5.7. Ids of records and the dates of keys recognise it by the same rule.

/// The length of `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
const UUID_LENGTH: usize = 36;

/// The first 48 bits of a key that carries a date: milliseconds since 1970.
#[must_use]
pub fn milliseconds(key: &[u8]) -> Option<u64> {
    let key: &[u8; UUID_LENGTH] = key.try_into().ok()?;
    // What tells most keys apart comes first: this runs in every call.
    let is_dated = key[14] == b'7'
        && matches!(key[19], b'8' | b'9' | b'a' | b'b' | b'A' | b'B')
        && HYPHENS.iter().all(|at| key[*at] == b'-');
    if !is_dated {
        return None;
    }
    let (mut milliseconds, mut all) = (0, 0);
    for (at, byte) in key.iter().enumerate() {
        if !HYPHENS.contains(&at) {
            let digit = DIGITS[usize::from(*byte)];
            all |= digit;
            if at < HYPHENS[1] {
                milliseconds = (milliseconds << 4) | u64::from(digit);
            }
        }
    }
    (all < NO_DIGIT).then_some(milliseconds)
}

/// Where the hyphens of a UUID are; the first 48 bits end before the second.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];
/// The value of each byte as a hexadecimal digit.
const DIGITS: [u8; 256] = digits();
/// What is none: a bit that no digit has.
const NO_DIGIT: u8 = 0x10;

const fn digits() -> [u8; 256] {
    let mut digits = [NO_DIGIT; 256];
    let mut value: u8 = 0;
    while value < 16 {
        digits[b"0123456789abcdef"[value as usize] as usize] = value;
        digits[b"0123456789ABCDEF"[value as usize] as usize] = value;
        value += 1;
    }
    digits
}
