//! Lengths of time, as SQL gives them and as people read them.

use crate::Micros;
use crate::error::{Code, Error, Result};

const SECOND: Micros = 1_000_000;
const DAY: Micros = 24 * 3600 * SECOND;
/// Nothing lasts longer: a hundred years, leap days included.
const LONGEST: Micros = 36_525 * DAY;

/// The microseconds of an `interval` with these fields. A month counts as 30 days and a day as 24
/// hours, so that a retention is the same whatever the session's time zone and the season.
///
/// `None` when the sum does not fit. That covers the infinite intervals of Postgres 17: all their
/// fields are at the same end of their types.
#[must_use]
pub fn interval_micros(months: i32, days: i32, micros: i64) -> Option<Micros> {
    // In 128 bits nothing overflows on the way, not even where the parts cancel out.
    let days = i128::from(months) * 30 + i128::from(days);
    Micros::try_from(days * i128::from(DAY) + i128::from(micros)).ok()
}

/// Checks that a length of time is at least `min` and at most a hundred years. `what` names it in
/// the message, as its argument is called.
///
/// # Errors
/// `22023` outside of that.
pub fn check_duration(what: &str, micros: Micros, min: Micros) -> Result<()> {
    let message = if micros < min {
        "too short"
    } else if micros > LONGEST {
        "too long"
    } else {
        return Ok(());
    };
    Err(refuse(what, message, format!("It is {}.", describe(micros)), min))
}

/// A length of time that an argument called `what` gave, by [`interval_micros`], within bounds.
///
/// # Errors
/// `22023` when the interval is infinite, does not fit, is shorter than `min` or longer than a
/// hundred years.
pub fn duration(what: &str, months: i32, days: i32, micros: i64, min: Micros) -> Result<Micros> {
    let Some(length) = interval_micros(months, days, micros) else {
        return Err(refuse(
            what,
            "not finite",
            "It is infinite, or too long to be counted in microseconds.".to_owned(),
            min,
        ));
    };
    check_duration(what, length, min)?;
    Ok(length)
}

fn refuse(what: &str, problem: &str, detail: String, min: Micros) -> Error {
    Error::new(Code::InvalidParameter, format!("{what} is {problem}")).detail(detail).hint(format!(
        "Pass an interval from {} to 100 years, such as {what} => '{}'.",
        describe(min),
        example(what)
    ))
}

/// A sensible value: what is typed from a hint is seldom thought over.
fn example(what: &str) -> &'static str {
    match what {
        "lease" => "30 seconds",
        "wait" => "2 seconds",
        "failure_retention" => "5 minutes",
        "ttl" => "10 minutes",
        _ => "24 hours",
    }
}

/// A length of time in its largest whole unit: `24 hours`, `1500 ms`.
pub(crate) fn describe(micros: Micros) -> String {
    let units = [
        (DAY, "day", "days"),
        (3600 * SECOND, "hour", "hours"),
        (60 * SECOND, "minute", "minutes"),
        (SECOND, "second", "seconds"),
        (1000, "ms", "ms"),
    ];
    // Zero is a whole number of every unit, and reads best in seconds.
    let whole =
        |(size, ..): &(Micros, _, _)| micros % size == 0 && (micros != 0 || *size == SECOND);
    let (size, one, many) = units.into_iter().find(whole).unwrap_or((1, "us", "us"));
    let count = micros / size;
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
#[path = "tests/duration.rs"]
mod tests;
