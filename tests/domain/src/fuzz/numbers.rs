//! Numbers, against the decimal arithmetic of another crate.

use proptest::prelude::*;

use crate::budget::hold;
use crate::document::{Choices, Document, number, numbers};
use rules::request::exclude::Exclusions;
use rules::request::fingerprint::Canonical;
use rules::request::token::Token;

fn digest(text: &str) -> [u8; 32] {
    let exclude = Exclusions::default();
    let mut canonical = Canonical::new(&exclude);
    canonical.token(Token::Number(text.as_bytes()));
    canonical.finish()
}

#[test]
fn numbers_are_equal_when_a_bignum_crate_says_so() {
    let other = (numbers(), numbers(), any::<u64>()).prop_map(|(one, other, seed)| {
        let mut choices = Choices::new(seed);
        let of = |document: Document| match document {
            Document::Number(text) => text,
            _ => other.clone(),
        };
        let twin = Document::Number(one.clone());
        let other = match choices.below(3) {
            0 => of(twin.respelled(&mut choices)),
            1 => of(twin.changed(&mut choices).respelled(&mut choices)),
            _ => other.clone(),
        };
        (one, other)
    });
    hold(other, |(one, other)| {
        // A change may have made something that is no number, such as --1: it stands for itself.
        let same = match (number(&one), number(&other)) {
            (Some(one), Some(other)) => one == other,
            _ => one == other,
        };
        prop_assert_eq!(digest(&one) == digest(&other), same, "{} {}", one, other);
        Ok(())
    });
}

#[test]
fn any_bytes_are_a_number_or_stand_for_themselves() {
    let bytes = prop_oneof![
        "[-+.eE0159]{0,12}".prop_map(String::into_bytes),
        any::<Vec<u8>>(),
        "[-+]?[0-9]{0,3}\\.?[0-9]{0,3}([eE][-+]?[0-9]{15,21})?".prop_map(String::into_bytes),
    ];
    hold((bytes.clone(), bytes), |(one, other)| {
        let digests = [&one, &other].map(|text| {
            let exclude = Exclusions::default();
            let mut canonical = Canonical::new(&exclude);
            canonical.token(Token::Number(text));
            canonical.finish()
        });
        prop_assert!(one != other || digests[0] == digests[1]);
        Ok(())
    });
}
