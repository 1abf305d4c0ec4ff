use super::*;

#[test]
fn each_has_a_name_of_its_own_in_the_order_of_the_values() {
    for (index, (observed, name)) in Observed::ALL.into_iter().enumerate() {
        assert_eq!(observed as usize, index, "{name}");
        let same = Observed::ALL.iter().filter(|(_, other)| *other == name);
        assert_eq!(same.count(), 1, "{name}");
    }
}

#[test]
fn what_would_have_been_answered_is_told_apart() {
    let cases = [
        (Verdict::Held, None),
        (Verdict::Claim { attempt: 1, takeover: false }, Some(Observed::First)),
        (Verdict::Claim { attempt: 2, takeover: true }, Some(Observed::First)),
        (Verdict::Replay { failed: false }, Some(Observed::Duplicate)),
        (Verdict::Replay { failed: true }, Some(Observed::Duplicate)),
        (Verdict::Mismatch, Some(Observed::Mismatch)),
        (Verdict::InProgress { retry_after: 1 }, Some(Observed::Concurrent)),
        (Verdict::Expired, Some(Observed::Expired)),
        (Verdict::Unknown, Some(Observed::Unknown)),
        (Verdict::Sealed, Some(Observed::Sealed)),
    ];
    for (verdict, observed) in cases {
        assert_eq!(Observed::of(verdict), observed, "{verdict:?}");
    }
}

#[test]
fn what_would_have_run_is_no_example_of_anything() {
    for (observed, name) in Observed::ALL {
        assert_eq!(observed.is_sampled(), name != "first", "{name}");
    }
}
