//! The calls of calls.json, as a driver for Rust plays them.

use std::collections::HashMap;
use std::fs;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

/// A parameter, as a program has it.
pub enum Parameter {
    Text(Option<String>),
    Json(Option<Value>),
    Integer(Option<i32>),
    Bigint(Option<i64>),
    Seconds(Option<f64>),
    Boolean(Option<bool>),
    Uuid(Option<Uuid>),
    Timestamp(Option<DateTime<Utc>>),
    Bytes(Option<Vec<u8>>),
    Texts(Option<Vec<String>>),
    Bigints(Option<Vec<i64>>),
    Uuids(Option<Vec<Uuid>>),
}

/// What earlier calls have saved.
#[derive(Default)]
pub struct Saved(HashMap<String, Value>);

impl Saved {
    fn keep(&mut self, call: &Value, rows: &[Vec<Value>]) {
        for (name, column) in call["save"].as_object().into_iter().flatten() {
            let column = column.as_u64().expect("a column has a number") as usize;
            self.0.insert(name.clone(), rows[0][column].clone());
        }
    }

    fn filled<'a>(&'a self, given: &'a Value) -> &'a Value {
        match given.as_str().and_then(|text| text.strip_prefix('@')) {
            Some(name) => &self.0[name],
            None => given,
        }
    }

    fn list<T>(&self, given: &Value, one: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
        given.as_array().map(|items| {
            items.iter().map(|item| one(self.filled(item)).expect("a list has no nulls")).collect()
        })
    }

    pub fn parameters(&self, call: &Value) -> Vec<Parameter> {
        call["with"]
            .as_array()
            .expect("with is a list")
            .iter()
            .map(|argument| self.parameter(argument))
            .collect()
    }

    fn parameter(&self, argument: &Value) -> Parameter {
        let (kind, given) = argument
            .as_object()
            .and_then(|object| object.iter().next())
            .expect("a parameter has a kind");
        let given = self.filled(given);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let uuid = |value: &Value| value.as_str().map(|text| text.parse().expect("a UUID"));
        match kind.as_str() {
            "text" => Parameter::Text(text(given)),
            "json" => Parameter::Json(Some(given.clone()).filter(|value| !value.is_null())),
            "integer" => Parameter::Integer(given.as_i64().map(|number| number as i32)),
            "bigint" => Parameter::Bigint(given.as_i64()),
            "seconds" => Parameter::Seconds(given.as_f64()),
            "boolean" => Parameter::Boolean(given.as_bool()),
            "uuid" => Parameter::Uuid(uuid(given)),
            "timestamp" => Parameter::Timestamp(given.as_str().map(|text| {
                if text == "now" { Utc::now() } else { text.parse().expect("a date") }
            })),
            "bytes" => Parameter::Bytes(given.as_str().map(bytes)),
            "texts" => Parameter::Texts(self.list(given, text)),
            "bigints" => Parameter::Bigints(self.list(given, Value::as_i64)),
            "uuids" => Parameter::Uuids(self.list(given, uuid)),
            other => panic!("no such kind of parameter: {other}"),
        }
    }
}

fn bytes(digits: &str) -> Vec<u8> {
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits"))
        .collect()
}

pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn transactions() -> Vec<Value> {
    let path = std::env::args().nth(1).expect("the path of calls.json");
    let text = fs::read_to_string(path).expect("calls.json can be read");
    serde_json::from_str(&text).expect("calls.json is a list")
}

pub fn calls(transaction: &Value) -> &[Value] {
    transaction["calls"].as_array().expect("calls is a list")
}

pub fn sql(call: &Value) -> &str {
    call["sql"].as_str().expect("sql is a text")
}

/// What the calls of a transaction answered.
#[derive(Default)]
pub struct Answers(Vec<Value>);

impl Answers {
    pub fn told(&mut self, saved: &mut Saved, call: &Value, rows: Vec<Vec<Value>>) {
        saved.keep(call, &rows);
        self.0.push(json!(rows));
    }

    /// Says so, and whether the transaction failed.
    pub fn say(self, failed: Option<(Option<String>, String)>) {
        let (sqlstate, message) =
            failed.map_or((None, None), |(sqlstate, message)| (sqlstate, Some(message)));
        println!("{}", json!({"answers": self.0, "failed": message, "sqlstate": sqlstate}));
    }
}
