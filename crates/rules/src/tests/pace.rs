//! The sweeper's pace.

use crate::Micros;
use crate::pace::rest;

const SECOND: Micros = 1_000_000;

#[test]
fn a_sweeper_that_keeps_up_is_gentle() {
    assert_eq!(rest(10_000, 0), 600_000);
    assert_eq!(rest(10_000, 60 * SECOND), 600_000);
    // A clock that was set back.
    assert_eq!(rest(10_000, -5 * SECOND), 600_000);
}

#[test]
fn a_sweeper_that_has_fallen_behind_is_faster() {
    assert_eq!(rest(10_000, 60 * SECOND + 1), 200_000);
    assert_eq!(rest(10_000, Micros::MAX), 200_000);
}

#[test]
fn no_rest_is_longer_than_a_second() {
    assert_eq!(rest(0, 0), 0);
    assert_eq!(rest(SECOND, 0), SECOND);
    assert_eq!(rest(Micros::MAX, Micros::MAX), SECOND);
}
