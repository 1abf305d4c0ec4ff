use proptest::prelude::*;

use super::*;

/// Sign, digits without the point, exponent; zero has no digits.
fn canonical(text: &str) -> Option<(bool, String, i64)> {
    Some(match Number::parse(text.as_bytes())? {
        Number::Zero => (false, String::new(), 0),
        Number::Decimal { negative, digits, count, exponent } => {
            let digits: String =
                digits.iter().filter(|byte| **byte != b'.').map(|byte| char::from(*byte)).collect();
            assert_eq!(digits.len(), count, "{text}");
            (negative, digits, exponent)
        }
    })
}

#[test]
fn one_value_has_one_form() {
    let forms: [(&[&str], bool, &str, i64); 12] = [
        (
            &[
                "0",
                "-0",
                "+0",
                "0.0",
                "00",
                ".0",
                "0.",
                "0e5",
                "-0.00E-7",
                "0e99999999999999999999",
            ],
            false,
            "",
            0,
        ),
        (
            &["1", "1.0", "1.00", "1e0", "10e-1", "0.1e1", "01", "+1", "1.", "100e-02"],
            false,
            "1",
            0,
        ),
        (&["-1", "-1.0", "-10E-1", "-0.001e+3"], true, "1", 0),
        (&["10", "1e1", "1E+1", "10.00", "0.01e3", "100e-1"], false, "1", 1),
        (&["0.1", ".1", "1e-1", "10e-2", "0.10"], false, "1", -1),
        (&["0.001", "1e-3"], false, "1", -3),
        (&["120.50", "120.5", "1205e-1", "1.205e2"], false, "1205", -1),
        (&["100.001"], false, "100001", -3),
        (&["1234567890", "123456789e1"], false, "123456789", 1),
        (&["1e1000000000000"], false, "1", 1_000_000_000_000),
        (&["9223372036854775807"], false, "9223372036854775807", 0),
        (
            &["123456789012345678901234567890.0", "123456789012345678901234567890"],
            false,
            "12345678901234567890123456789",
            1,
        ),
    ];
    for (spellings, negative, digits, exponent) in forms {
        for spelling in spellings {
            assert_eq!(
                canonical(spelling),
                Some((negative, digits.to_owned(), exponent)),
                "{spelling}"
            );
        }
    }
}

#[test]
fn exponents_go_to_the_ends_of_64_bits_and_not_beyond() {
    let exponent = |text| canonical(text).map(|(_, _, exponent)| exponent);
    assert_eq!(exponent("1e9223372036854775807"), Some(i64::MAX));
    assert_eq!(exponent("1e-9223372036854775808"), Some(i64::MIN));
    assert_eq!(exponent("1e0000000000000000000000000000007"), Some(7));
    assert_eq!(exponent("1e9223372036854775808"), None);
    assert_eq!(exponent("1e18446744073709551616"), None);
    assert_eq!(exponent("10e9223372036854775807"), None);
    assert_eq!(exponent("1e-9223372036854775809"), None);
    assert_eq!(exponent("0.1e-9223372036854775808"), None);
    assert_eq!(exponent("0.1e9223372036854775807"), Some(i64::MAX - 1));
}

#[test]
fn what_is_no_decimal_number_is_none() {
    for text in [
        "",
        "-",
        "+",
        ".",
        "-.",
        "e",
        "e5",
        ".e5",
        "1e",
        "1e+",
        "0e",
        "1e5.0",
        "1.2.3",
        "--1",
        "1-1",
        "NaN",
        "Infinity",
        "-Infinity",
        "0x10",
        " 1",
        "1 ",
        "1_000",
        "1e5e5",
        "\u{661}",
    ] {
        assert_eq!(canonical(text), None, "{text:?}");
    }
}

/// Another spelling of the number with these digits and this exponent.
fn spell(
    negative: bool,
    digits: &str,
    exponent: i64,
    shift: usize,
    zeros: (usize, usize),
) -> String {
    // Move the point by `shift` digits to the left, and pad with zeros on both ends.
    let padded = format!("{}{digits}{}", "0".repeat(zeros.0 + shift), "0".repeat(zeros.1));
    let (integer, fraction) = padded.split_at(padded.len() - shift);
    let exponent = exponent - i64::try_from(zeros.1).unwrap() + i64::try_from(shift).unwrap();
    let sign = if negative { "-" } else { "" };
    format!("{sign}{integer}.{fraction}e{exponent}")
}

proptest! {
    /// Integers, checked against 128-bit arithmetic.
    #[test]
    fn integers_keep_every_digit(value: i128) {
        let (negative, digits, exponent) = canonical(&value.to_string()).unwrap();
        let sign = if negative { "-" } else { "" };
        let zeros = "0".repeat(usize::try_from(exponent).unwrap());
        let text = format!("{sign}{digits}{zeros}");
        prop_assert_eq!(if text.is_empty() { 0 } else { text.parse::<i128>().unwrap() }, value);
    }

    #[test]
    fn every_spelling_has_the_same_form(
        negative: bool,
        digits in "[1-9][0-9]{0,30}[1-9]|[1-9]",
        exponent in -1000..1000_i64,
        shift in 0..40_usize,
        zeros in (0..5_usize, 0..5_usize),
    ) {
        let spelled = spell(negative, &digits, exponent, shift, zeros);
        prop_assert_eq!(canonical(&spelled), Some((negative, digits, exponent)), "{}", spelled);
    }

    #[test]
    fn any_bytes_are_read_or_refused(text in "[-+.eE019x]{0,8}|\\PC{0,4}") {
        let _ = Number::parse(text.as_bytes());
    }
}
