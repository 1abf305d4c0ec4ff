use proptest::prelude::*;

use super::*;

#[test]
fn intervals_are_counted_in_days_of_24_hours_and_months_of_30_days() {
    assert_eq!(interval_micros(0, 0, 0), Some(0));
    assert_eq!(interval_micros(0, 0, 1), Some(1));
    assert_eq!(interval_micros(0, 1, 0), Some(86_400_000_000));
    assert_eq!(interval_micros(1, 0, 0), Some(2_592_000_000_000));
    assert_eq!(interval_micros(-1, 30, -5), Some(-5));
    // '100 years'
    assert_eq!(interval_micros(12 * 100, 0, 0), Some(36_000 * DAY));
}

#[test]
fn what_does_not_fit_or_never_ends_is_none() {
    // Postgres 17's 'infinity' and '-infinity'.
    assert_eq!(interval_micros(i32::MAX, i32::MAX, i64::MAX), None);
    assert_eq!(interval_micros(i32::MIN, i32::MIN, i64::MIN), None);
    assert_eq!(interval_micros(0, 0, i64::MAX), Some(i64::MAX));
    assert_eq!(interval_micros(0, 1, i64::MAX), None);
    assert_eq!(interval_micros(0, -1, i64::MIN), None);
    assert_eq!(interval_micros(0, i32::MAX, 0), None);
    assert_eq!(interval_micros(i32::MIN, 0, 0), None);
    // Only the sum must fit.
    assert_eq!(interval_micros(i32::MAX, -30 * 71_582_788, 0), None);
    assert_eq!(interval_micros(4_000_000, -120_000_000, 5), Some(5));
    assert_eq!(interval_micros(0, 106_751_992, -DAY), Some(106_751_991 * DAY));
}

#[test]
fn durations_have_bounds() {
    let least = 1000;
    assert_eq!(check_duration("lease", least, least), Ok(()));
    assert_eq!(check_duration("lease", LONGEST, least), Ok(()));
    let short = check_duration("lease", least - 1, least).unwrap_err();
    assert_eq!(short.code, Code::InvalidParameter);
    assert_eq!(short.message, "lease is too short");
    assert_eq!(short.detail.as_deref(), Some("It is 999 us."));
    assert_eq!(
        short.hint.as_deref(),
        Some("Pass an interval from 1 ms to 100 years, such as lease => '30 seconds'.")
    );
    let long = check_duration("lease", LONGEST + 1, least).unwrap_err();
    assert_eq!(long.code, Code::InvalidParameter);
    assert_eq!(long.message, "lease is too long");
}

#[test]
fn an_interval_is_read_and_checked_in_one() {
    assert_eq!(duration("wait", 0, 0, 0, 0), Ok(0));
    assert_eq!(duration("wait", 0, 1, 1, 0), Ok(DAY + 1));
    let message = |months, days, micros| {
        let error = duration("wait", months, days, micros, 0).unwrap_err();
        assert_eq!(error.code, Code::InvalidParameter);
        error.message
    };
    assert_eq!(message(i32::MAX, i32::MAX, i64::MAX), "wait is not finite");
    assert_eq!(message(0, 1, i64::MAX), "wait is not finite");
    assert_eq!(message(0, 0, -1), "wait is too short");
    assert_eq!(message(12 * 102, 0, 0), "wait is too long");
}

#[test]
fn lengths_are_described_in_their_largest_whole_unit() {
    let described = [
        (0, "0 seconds"),
        (1, "1 us"),
        (1500, "1500 us"),
        (2000, "2 ms"),
        (SECOND, "1 second"),
        (90 * SECOND, "90 seconds"),
        (120 * SECOND, "2 minutes"),
        (3600 * SECOND, "1 hour"),
        (DAY, "1 day"),
        (LONGEST, "36525 days"),
        (-DAY, "-1 days"),
        (-1, "-1 us"),
        (i64::MIN, "-9223372036854775808 us"),
    ];
    for (micros, text) in described {
        assert_eq!(describe(micros), text);
    }
}

proptest! {
    /// However a length is divided among the fields, it is the same length.
    #[test]
    fn fields_are_interchangeable(
        months in prop_oneof![-9..9_i32, i32::MIN + 9..i32::MAX - 9],
        days in prop_oneof![-99..99_i32, i32::MIN + 99..i32::MAX - 99],
        micros in prop_oneof![-99..99_i64, i64::MIN + 99..i64::MAX - 99],
        moved in -3..=3_i32,
    ) {
        let length = interval_micros(months, days, micros);
        prop_assert_eq!(interval_micros(months + moved, days - 30 * moved, micros), length);
        if let Some(micros) = micros.checked_sub(i64::from(moved) * DAY) {
            prop_assert_eq!(interval_micros(months, days + moved, micros), length);
        }
    }
}
