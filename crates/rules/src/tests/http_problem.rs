use super::{PAGE, Problem, seconds};
use crate::http::key::BadKey;
use crate::outcome::Outcome;
use serde_json::Value;

fn all() -> Vec<Problem> {
    let keys =
        [BadKey::Missing, BadKey::NoString, BadKey::NoKey, BadKey::NoUuid].map(Problem::of_key);
    let outcomes = Outcome::all().filter_map(|outcome| Problem::of_outcome(outcome, None));
    keys.into_iter().chain(outcomes).collect()
}

#[test]
fn a_row_a_problem() {
    let told: Vec<_> =
        all().iter().map(|problem| (problem.outcome, problem.status, problem.anchor)).collect();
    assert_eq!(
        told,
        [
            ("missing", 400, "key-missing"),
            ("malformed", 400, "key-malformed"),
            ("malformed", 400, "key-malformed"),
            ("malformed", 400, "key-malformed"),
            ("in_progress", 409, "in-progress"),
            ("mismatch", 422, "mismatch"),
            ("expired", 412, "expired"),
            ("unknown", 409, "unknown"),
            ("sealed", 409, "sealed"),
        ]
    );
}

#[test]
fn a_body_is_that_of_rfc_9457() {
    for problem in all() {
        let body: Value = serde_json::from_str(&problem.body()).unwrap();
        assert_eq!(body["type"], format!("{PAGE}#{}", problem.anchor));
        assert_eq!(body["status"], problem.status);
        assert_eq!(body["title"], problem.title);
        assert_eq!(body["detail"], problem.detail);
        assert_eq!(body.as_object().unwrap().len(), 4);
    }
}

#[test]
fn when_to_ask_again() {
    let headers = |after| Problem::of_outcome(Outcome::InProgress, after).unwrap().headers();
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let kind = header("Content-Type", "application/problem+json");
    assert_eq!(headers(None), std::slice::from_ref(&kind));
    assert_eq!(headers(Some(1_500_000)), [kind, header("Retry-After", "2")]);
    for (micros, whole) in
        [(-1, 1), (0, 1), (1, 1), (1_000_000, 1), (1_000_001, 2), (i64::MAX, i32::MAX)]
    {
        assert_eq!(seconds(micros), whole, "{micros}");
    }
}
