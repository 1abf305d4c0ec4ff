//! Documents for tests: random ones, and the walk over them in the order of `jsonb`.

use proptest::prelude::*;
use serde_json::Value;

use crate::request::exclude::Exclusions;
use crate::request::{fingerprint::Canonical, token::Token};

/// The digest of a JSON text.
pub fn digest_text(text: &str, exclude: &Exclusions) -> [u8; 32] {
    digest(&serde_json::from_str(text).unwrap(), exclude, &plain)
}

/// The digest of a document, its numbers spelled as `spell` likes.
pub fn digest(value: &Value, exclude: &Exclusions, spell: &dyn Fn(&str) -> String) -> [u8; 32] {
    let mut canonical = Canonical::new(exclude);
    walk(value, spell, &mut |token| canonical.token(token));
    canonical.finish()
}

/// A number as it is.
pub fn plain(number: &str) -> String {
    number.to_owned()
}

fn walk(value: &Value, spell: &dyn Fn(&str) -> String, emit: &mut dyn FnMut(Token<'_>)) {
    match value {
        Value::Null => emit(Token::Null),
        Value::Bool(value) => emit(Token::Bool(*value)),
        Value::Number(number) => emit(Token::Number(spell(&number.to_string()).as_bytes())),
        Value::String(text) => emit(Token::String(text.as_bytes())),
        Value::Array(values) => {
            emit(Token::BeginArray);
            for value in values {
                walk(value, spell, emit);
            }
            emit(Token::EndArray);
        }
        Value::Object(members) => {
            emit(Token::BeginObject);
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| (name.len(), name.as_bytes()));
            for (name, value) in members {
                emit(Token::Member(name.as_bytes()));
                walk(value, spell, emit);
            }
            emit(Token::EndObject);
        }
    }
}

/// Names that are often the same, and awkward for pointers.
pub fn names() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "ab", "", "/", "~", "~0", "a/b", "ä"])
        .prop_map(String::from)
}

/// Small documents of every kind of value, with names from [`names`].
pub fn documents() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3..3_i64).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        // Halves: as exact in binary as in decimal.
        (-6..6_i32).prop_map(|halves| Value::from(f64::from(halves) / 2.0)),
        "[01e.\"{\\[ ]{0,3}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(names(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Equal as JSON: by value, `1` being `1.0`.
pub fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            let integer = |number: &serde_json::Number| {
                let unsigned = number.as_u64().map(i128::from);
                unsigned.or_else(|| number.as_i64().map(i128::from))
            };
            match (integer(one), integer(other)) {
                (Some(one), Some(other)) => one == other,
                _ => one.as_f64() == other.as_f64(),
            }
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(name, value)| other.get(name).is_some_and(|other| same(value, other)))
        }
        _ => one == other,
    }
}
