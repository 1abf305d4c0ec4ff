//! What clients store as answers. Every answer has a number of its own, so that a replay shows which one it is.

use serde_json::{Value, json};

use crate::history::Row;

/// The answer that a completion stores; the other members are there so that a mixture of two answers is noticed.
pub fn response(answer: u64, effect: Option<u64>) -> Value {
    json!({"answer": answer, "effect": effect, "check": answer % 1_000_003})
}

/// The status that goes with it.
pub fn status(answer: u64) -> i64 {
    i64::try_from(200 + answer % 300).unwrap_or(200)
}

/// The number of a replayed answer, be it an answer or a declined handler's stored failure.
pub fn number(row: &Row) -> Option<u64> {
    let response = row.response.as_ref()?;
    response.get("answer").and_then(Value::as_u64).or_else(|| {
        response.get("message")?.as_str()?.strip_prefix("declined ").and_then(|n| n.parse().ok())
    })
}

/// The number of the business row that belongs to it.
pub fn effect(row: &Row) -> Option<u64> {
    effect_of(row.response.as_ref()?)
}

/// The same of an answer that is stored.
pub fn effect_of(response: &Value) -> Option<u64> {
    response.get("effect")?.as_u64()
}

/// The failure that is stored of a handler that declined.
pub fn declined(effect: u64) -> Value {
    json!({"sqlstate": "P0001", "message": format!("declined {effect}")})
}
