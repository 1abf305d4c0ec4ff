use super::*;

const NOW: Timestamp = 1_000_000;
const HELD: Lock<'_> = Lock { holder: b"a", fence: 7, expires_at: NOW + 10 };

#[test]
fn the_first_gets_it_and_others_do_not() {
    assert_eq!(ask(None, b"a", 5, NOW), Answer::Granted { until: NOW + 5 });
    assert_eq!(ask(Some(&HELD), b"b", 5, NOW), Answer::Refused);
    assert_eq!(ask(Some(&HELD), b"A", 5, NOW), Answer::Refused);
    assert_eq!(ask(Some(&HELD), b"", 5, NOW), Answer::Refused);
}

#[test]
fn the_same_key_extends_and_never_shortens() {
    assert_eq!(ask(Some(&HELD), b"a", 50, NOW), Answer::Extended { until: NOW + 50 });
    assert_eq!(ask(Some(&HELD), b"a", 10, NOW), Answer::Extended { until: NOW + 10 });
    assert_eq!(ask(Some(&HELD), b"a", 5, NOW), Answer::Extended { until: NOW + 10 });
}

#[test]
fn what_has_ended_is_nobodys_not_even_its_holders() {
    for key in [b"a", b"b"] {
        let at_the_end = NOW + 10;
        assert_eq!(
            ask(Some(&HELD), key, 5, at_the_end),
            Answer::Granted { until: at_the_end + 5 },
            "one that ends now has ended"
        );
    }
    assert!(is_held(Some(&HELD), b"a", 7, NOW + 9));
    assert!(!is_held(Some(&HELD), b"a", 7, NOW + 10));
}

#[test]
fn a_holder_has_the_key_and_the_fence() {
    assert!(is_held(Some(&HELD), b"a", 7, NOW));
    assert!(!is_held(Some(&HELD), b"b", 7, NOW));
    assert!(!is_held(Some(&HELD), b"a", 6, NOW));
    assert!(!is_held(None, b"a", 7, NOW));
}

#[test]
fn a_time_without_end_does_not_wrap_around() {
    let until = Timestamp::MAX;
    assert_eq!(ask(None, b"a", Micros::MAX, NOW), Answer::Granted { until });
}
