//! One value, one spelling: the canonical form of a decimal number.

/// A number as its sign, its digits without zeros at either end, and the power of ten that the last
/// of them counts: `-120.50` is negative, `1205`, -1. The digits stay where they are in the text.
///
/// So nothing is expanded (`1e1000000` has one digit), nothing is rounded, and two spellings are
/// equal exactly when their values are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Number<'a> {
    Zero,
    Decimal {
        negative: bool,
        /// From the first digit that is not zero to the last; the decimal point may be within.
        digits: &'a [u8],
        /// How many digits that is, without the point.
        count: usize,
        exponent: i64,
    },
}

impl<'a> Number<'a> {
    /// Reads `[+-]digits[.digits][(e|E)[+-]digits]`, where either side of the point may be missing
    /// but not both.
    ///
    /// `None` for anything else, and for an exponent that does not fit 64 bits, which is far beyond
    /// what `numeric`, and so `jsonb`, can hold.
    pub(crate) fn parse(text: &'a [u8]) -> Option<Self> {
        let (negative, unsigned) = sign(text);
        let mantissa_end =
            unsigned.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(unsigned.len());
        let (mantissa, power) = unsigned.split_at(mantissa_end);
        let point = mantissa.iter().position(|&byte| byte == b'.');
        let integer = &mantissa[..point.unwrap_or(mantissa.len())];
        let fraction = point.map_or(&[][..], |at| &mantissa[at + 1..]);
        let all_digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
        if !all_digits(integer) || !all_digits(fraction) || integer.len() + fraction.len() == 0 {
            return None;
        }
        let power = match power.split_first() {
            Some((_, power)) => exponent(power)?,
            None => Some(0),
        };
        let counts = |byte: &u8| matches!(byte, b'1'..=b'9');
        let (Some(first), Some(last)) =
            (mantissa.iter().position(counts), mantissa.iter().rposition(counts))
        else {
            return Some(Self::Zero);
        };
        // The place of the last digit that counts, seen from the point: 1 is -1, 0.1 is 1.
        let place = |at: usize| match point {
            Some(point) if at > point => i64::try_from(at - point).ok(),
            _ => i64::try_from(integer.len() - 1 - at).ok().map(|n| -n),
        };
        Some(Self::Decimal {
            negative,
            digits: &mantissa[first..=last],
            count: last - first + usize::from(!point.is_some_and(|at| first < at && at < last)),
            exponent: power?.checked_sub(place(last)?)?,
        })
    }
}

fn sign(text: &[u8]) -> (bool, &[u8]) {
    match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    }
}

/// The exponent behind the `e`: `None` when it is no number, `Some(None)` when it does not fit.
#[allow(clippy::option_option)] // Zero is zero to any power, but not with `e` and no number.
fn exponent(text: &[u8]) -> Option<Option<i64>> {
    let (negative, digits) = sign(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().try_fold(0_i64, |value, digit| {
        let digit = i64::from(digit - b'0');
        let value = value.checked_mul(10)?;
        if negative { value.checked_sub(digit) } else { value.checked_add(digit) }
    }))
}

#[cfg(test)]
#[path = "../tests/number.rs"]
mod tests;
