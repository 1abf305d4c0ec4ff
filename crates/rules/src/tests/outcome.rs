use super::*;
use std::collections::BTreeSet;

#[test]
fn each_outcome_has_its_own_row() {
    for (place, outcome) in Outcome::all().enumerate() {
        assert_eq!(outcome as usize, place, "{outcome:?}");
        assert_eq!(outcome.row().outcome, outcome);
    }
    let names: BTreeSet<_> = Outcome::all().map(Outcome::name).collect();
    assert_eq!(names.len(), TABLE.len());
}

#[test]
fn a_refusal_has_a_status_of_http_and_an_exception() {
    for outcome in Outcome::all() {
        let is_refusal = outcome.strict().is_some();
        assert_eq!(
            outcome.http().is_some(),
            is_refusal || outcome == Outcome::Absent,
            "{outcome:?}"
        );
    }
    assert_eq!(Outcome::Mismatch.http(), Some(422));
    assert_eq!(Outcome::Expired.http(), Some(412));
    assert_eq!(Outcome::InProgress.strict(), Some(Code::InProgress));
}
