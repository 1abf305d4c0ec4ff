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

/// A number as Postgres stores it: digits to the base of 10,000, the highest first, and the power of
/// 10,000 that the first of them counts. So `1e131071` is one digit, and its zeros are never written.
#[derive(Debug, Clone, Copy)]
pub struct Digits<'a> {
    pub negative: bool,
    /// Each of 0 to 9999.
    pub digits: &'a [i16],
    pub weight: i16,
}

/// What counts of [`Digits`], as [`Number::Decimal`] has it.
pub(crate) struct Significant<'a> {
    /// From the first digit that is not zero to the last.
    pub digits: &'a [i16],
    /// How many decimal zeros the first of them begins with, and the last ends with.
    pub leading: usize,
    pub trailing: usize,
    /// The power of ten that the last decimal digit that counts counts.
    pub exponent: i64,
}

impl<'a> Digits<'a> {
    /// Decimal digits of one to the base of 10,000.
    pub(crate) const DECIMALS: usize = 4;

    /// `None` for zero.
    pub(crate) fn significant(self) -> Option<Significant<'a>> {
        let first = self.digits.iter().position(|digit| *digit != 0)?;
        let last = self.digits.iter().rposition(|digit| *digit != 0)?;
        let (highest, lowest) = (self.digits[first], self.digits[last]);
        let leading = [1000, 100, 10].iter().filter(|power| highest < **power).count();
        let trailing = [10, 100, 1000].iter().filter(|power| lowest % **power == 0).count();
        let power = i64::from(self.weight) - i64::try_from(last).ok()?;
        Some(Significant {
            digits: &self.digits[first..=last],
            leading,
            trailing,
            exponent: power * 4 + i64::try_from(trailing).ok()?,
        })
    }
}

impl Significant<'_> {
    /// How many decimal digits count.
    pub(crate) fn count(&self) -> usize {
        self.digits.len() * Digits::DECIMALS - self.leading - self.trailing
    }

    /// Calls `write` with the decimal digits that count, a few at a time.
    pub(crate) fn write(&self, mut write: impl FnMut(&[u8])) {
        let last = self.digits.len() - 1;
        for (at, digit) in self.digits.iter().enumerate() {
            let decimals = [1000, 100, 10, 1].map(|power| b'0' + (digit / power % 10) as u8);
            let begin = if at == 0 { self.leading } else { 0 };
            let end = Digits::DECIMALS - if at == last { self.trailing } else { 0 };
            write(&decimals[begin..end]);
        }
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
