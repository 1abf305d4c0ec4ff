//! Fingerprints of documents, against what the documents mean.

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::stream::{decode, encode};
use crate::budget::hold;
use crate::document::{Document, documents, pairs, paths, pointer};
use rules::request::exclude::Exclusions;
use rules::request::fingerprint::Canonical;
use rules::request::token::Token;

fn digest(document: &Document, exclude: &Exclusions) -> [u8; 32] {
    let mut canonical = Canonical::new(exclude);
    document.tokens(&mut |token| canonical.token(token));
    canonical.finish()
}

#[test]
fn fingerprints_are_equal_exactly_when_the_meanings_are() {
    hold(pairs(), |(one, other)| {
        let (Some(meaning), Some(other_meaning)) = (one.meaning(), other.meaning()) else {
            return Err(TestCaseError::reject("a change has made what is no number"));
        };
        let none = Exclusions::default();
        let equal = digest(&one, &none) == digest(&other, &none);
        prop_assert_eq!(equal, meaning == other_meaning, "{} {}", one.json(0), other.json(0));
        Ok(())
    });
}

/// Version 1 is what it was: the same bytes, from another program.
#[test]
fn what_is_hashed_is_what_is_documented_and_can_be_read_back() {
    hold(documents(), |document| {
        let meaning = document.meaning().unwrap();
        let stream = encode(&meaning);
        prop_assert_eq!(decode(&stream), meaning);
        let sha256: [u8; 32] = Sha256::digest(&stream).into();
        prop_assert_eq!(digest(&document, &Exclusions::default()), sha256);
        Ok(())
    });
}

#[test]
fn what_is_excluded_counts_as_removed() {
    hold((documents(), paths()), |(document, paths)| {
        let exclude = Exclusions::parse(paths.iter().map(|path| pointer(path))).unwrap();
        let mut pruned = document.meaning().unwrap();
        paths.iter().for_each(|path| pruned.remove(path));
        let sha256: [u8; 32] = Sha256::digest(encode(&pruned)).into();
        prop_assert_eq!(digest(&document, &exclude), sha256);
        Ok(())
    });
}

/// Whatever comes, in whatever order, and however deep.
#[test]
fn tokens_in_any_order_do_no_harm() {
    let token = (0..9_u8, prop::collection::vec(any::<u8>(), 0..4), 1..200_usize);
    let tokens = prop::collection::vec(token, 0..40);
    hold((tokens, paths()), |(tokens, paths)| {
        let exclude = Exclusions::parse(paths.iter().map(|path| pointer(path))).unwrap();
        let mut canonical = Canonical::new(&exclude);
        for (kind, text, times) in &tokens {
            let token = match kind {
                0 => Token::BeginObject,
                1 => Token::EndObject,
                2 => Token::BeginArray,
                3 => Token::EndArray,
                4 => Token::Member(text),
                5 => Token::String(text),
                6 => Token::Number(text),
                7 => Token::Bool(text.is_empty()),
                _ => Token::Null,
            };
            for _ in 0..*times {
                canonical.token(token);
            }
        }
        let _ = canonical.finish();
        Ok(())
    });
}
