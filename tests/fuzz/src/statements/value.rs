//! Random expressions of a type, and calls with random arguments.

use fastrand::Rng;

use super::catalog::{Argument, Function};

/// What an expression may refer to.
pub struct Scope<'a> {
    pub functions: &'a [Function],
    /// Columns of `fuzz.argument AS t` are there.
    pub columns: bool,
}

/// Calls within calls, at most.
const DEPTH: usize = 3;

impl Scope<'_> {
    /// A call of any function.
    pub fn any_call(&self, rng: &mut Rng) -> (String, &Function) {
        let function = &self.functions[rng.usize(..self.functions.len())];
        (self.call(rng, function, DEPTH), function)
    }

    /// A call with random arguments, by position and by name.
    pub fn call(&self, rng: &mut Rng, function: &Function, depth: usize) -> String {
        self.call_with(rng, function, depth, &[])
    }

    /// The same, where the variable `claim` holds the claim of this key.
    pub fn call_as_holder(
        &self,
        rng: &mut Rng,
        function: &Function,
        operation: &str,
        key: &str,
    ) -> String {
        let fence = if rng.u8(..10) == 0 { "1" } else { "claim.fence" };
        let given = [("operation", operation), ("key", key), ("scope", "''"), ("fence", fence)];
        self.call_with(rng, function, 1, &given)
    }

    fn call_with(
        &self,
        rng: &mut Rng,
        function: &Function,
        depth: usize,
        given: &[(&str, &str)],
    ) -> String {
        let needed = function.arguments.len() - function.defaults;
        let mut arguments = Vec::new();
        for (at, argument) in function.arguments.iter().enumerate() {
            let given = given.iter().find(|(name, _)| *name == argument.name);
            let by_name =
                if at < needed { String::new() } else { format!("{} => ", argument.name) };
            match given {
                Some((_, value)) => arguments.push(format!("{by_name}{value}")),
                None if at < needed || rng.u8(..10) < 4 => {
                    arguments.push(format!("{by_name}{}", self.argument(rng, argument, depth)));
                }
                None => {}
            }
        }
        format!("{}({})", function.name, arguments.join(", "))
    }

    fn argument(&self, rng: &mut Rng, argument: &Argument, depth: usize) -> String {
        let Argument { name, kind } = argument;
        if depth > 0 && rng.u8(..100) < 6 {
            let same: Vec<_> =
                self.functions.iter().filter(|function| function.result == *kind).collect();
            if !same.is_empty() {
                let function = same[rng.usize(..same.len())];
                return self.call(rng, function, depth - 1);
            }
        }
        let column = matches!(name.as_str(), "operation" | "key" | "scope" | "request");
        if self.columns && column && rng.u8(..3) == 0 {
            return format!("t.{name}");
        }
        if rng.u8(..100) < 3 {
            return format!("NULL::{kind}");
        }
        let pick = |rng: &mut Rng, choices: &[&str]| choices[rng.usize(..choices.len())].to_owned();
        match kind.as_str() {
            "text" => text(rng, name),
            "jsonb" if name == "steps" => pick(rng, STEPS),
            "jsonb" => pick(rng, JSON),
            "interval" => pick(rng, INTERVALS),
            "timestamp with time zone" => pick(rng, TIMES),
            "integer" => pick(
                rng,
                &["0", "1", "2", "7", "200", "-1", "2147483647", "'-2147483648'::integer", "1000"],
            ),
            "bigint" => pick(rng, FENCES),
            "boolean" => pick(rng, &["true", "false"]),
            "uuid" => {
                pick(rng, &["'c0ffee00-0000-4000-8000-000000000000'::uuid", "gen_random_uuid()"])
            }
            "bytea" => pick(
                rng,
                &["'\\x'::bytea", "'\\x00ff'::bytea", "decode(repeat('ab', 200000), 'hex')"],
            ),
            "text[]" => pick(rng, ARRAYS),
            "bigint[]" => pick(
                rng,
                &[
                    "'{}'::bigint[]",
                    "'{1,NULL}'::bigint[]",
                    "ARRAY(SELECT r.fence FROM idempotent.record AS r WHERE r.fence IS NOT NULL LIMIT 5)",
                ],
            ),
            "uuid[]" => pick(
                rng,
                &[
                    "'{}'::uuid[]",
                    "'{NULL}'::uuid[]",
                    "ARRAY(SELECT m.message_id FROM idempotent.outbox_message AS m ORDER BY m.position LIMIT 5)",
                ],
            ),
            "regrole" => pick(
                rng,
                &[
                    "'fuzz_caller'::regrole",
                    "'fuzz_other'::regrole",
                    "'pg_monitor'::regrole",
                    "0::oid::regrole",
                ],
            ),
            // A type that nobody thought of here: at least the call is made.
            _ => format!("NULL::{kind}"),
        }
    }
}

fn text(rng: &mut Rng, name: &str) -> String {
    let choices: &[&str] = if rng.u8(..100) < 5 {
        &[
            "''",
            "repeat('ä', 200)",
            "E'a\\nb'",
            "'-'",
            "'op'",
            "E'\\u202e'",
            "repeat('x', 100000)",
            "'completed'",
        ]
    } else {
        match name {
            "operation" | "name" => &[
                "'op'",
                "'op'",
                "'op'",
                "'logged'",
                "'lease'",
                "'strict'",
                "'short'",
                "'unsure'",
                "'theirs'",
                "'watched'",
                "'other'",
            ],
            "key" => KEYS,
            "scope" => &["''", "''", "'t1'"],
            "verdict" => &[
                "'completed'",
                "'failed'",
                "'absent'",
                "'completed'",
                "'compensated'",
                "'uncompensated'",
            ],
            "step" => &["'a'", "'b'", "'b'"],
            "durability" => &["'logged'", "'unlogged'"],
            "on_lapse" => &["'retry'", "'unknown'"],
            "after_reset" => &["'unknown'", "'execute'"],
            "mode" => &["'enforce'", "'observe'"],
            "key_dates" => &["'use'", "'ignore'"],
            "key_form" => &["'text'", "'text'", "'uuid'"],
            "key_header" => &["'k1'", "'\"k1\"'", "'\"k1'", "' '", "NULL"],
            "method" => &["'POST'", "'PATCH'", "'HEAD'", "''"],
            "target" => &["'/'", "'/?x=1'", "''"],
            "content_type" => {
                &["'application/json'", "'application/x-www-form-urlencoded'", "'text/plain'"]
            }
            "consumer" => &["'op'", "'op'", "'theirs'", "'strict'", "'short'", "'watched'"],
            "message_id" => KEYS,
            "resource" | "partition" => &["'r1'", "'r1'", "'r2'"],
            "topic" => &["'t1'", "'t1'", "'t2'"],
            "named" => &["'fuzz.same(jsonb)'", "'fuzz.is_no_handler(text)'", "'same(jsonb)'"],
            "handler" => HANDLERS,
            "code" => &["'P0001'", "'40001'", "'22'"],
            "state" => &["'running'", "'running'", "'compensating'", "'completed'"],
            _ => &["'label'", "'x'"],
        }
    };
    choices[rng.usize(..choices.len())].to_owned()
}

pub const KEYS: &[&str] = &[
    "'k1'",
    "'k1'",
    "'k2'",
    "'k2'",
    "'k3'",
    "'k4'",
    "'big'",
    "idempotent_new_key()",
    "idempotent_new_key(now() - interval '2 days')",
    "idempotent_new_key(now() + interval '1 day')",
    "idempotent_new_key(clock_timestamp() - interval '1 s')",
    "gen_random_uuid()::text",
];
const JSON: &[&str] = &[
    "'1'::jsonb",
    "'1'::jsonb",
    "'{}'::jsonb",
    "'{\"n\": 1}'::jsonb",
    "'{\"n\": 1.0, \"sent_at\": 5}'::jsonb",
    "'null'::jsonb",
    "'[1, \"a\", {}]'::jsonb",
    "to_jsonb(repeat('x', 50000))",
    "to_jsonb(clock_timestamp())",
    "repeat('[', 500)::text::jsonb || '1'",
    "'1e-16383'::jsonb",
    "'1e131071'::jsonb",
    "(repeat('[', 500) || repeat(']', 500))::jsonb",
    "to_jsonb('NaN'::numeric)",
    "jsonb_build_object('', '')",
];
const INTERVALS: &[&str] = &[
    "interval '0'",
    "interval '0'",
    "interval '1 ms'",
    "interval '20 ms'",
    "interval '30 s'",
    "interval '1 day'",
    "interval '100 years'",
    "interval '-1 s'",
    "interval '1 month -30 days'",
    "'infinity'::interval",
    "'-infinity'::interval",
    "interval '178000000 years'",
    "interval '101 years'",
    "interval '1 us'",
];
/// Of sagas: good ones, one that fails and is undone, and two that are none.
const STEPS: &[&str] = &[
    r#"'[{"name": "a", "handler": "fuzz.same(jsonb)", "compensation": "fuzz.nothing(jsonb)"}, {"name": "b", "handler": "fuzz.slow(jsonb)"}]'::jsonb"#,
    r#"'[{"name": "a", "handler": "fuzz.same(jsonb)", "compensation": "fuzz.sweeps(jsonb)"}, {"name": "b", "handler": "fuzz.declines(jsonb)", "final": ["P0001"]}]'::jsonb"#,
    r#"'[{"name": "a", "handler": "fuzz.enters(jsonb)"}, {"name": "b", "handler": "fuzz.divides(jsonb)"}]'::jsonb"#,
    r#"'[{"name": "a", "handler": "fuzz.is_no_handler(text)"}]'::jsonb"#,
    "'[]'::jsonb",
];
const TIMES: &[&str] = &[
    "now()",
    "clock_timestamp()",
    "now() - interval '1 hour'",
    "now() - interval '3 days'",
    "now() + interval '1 hour'",
    "'infinity'::timestamptz",
    "'-infinity'::timestamptz",
    "'4713-01-01 BC'::timestamptz",
    "'294276-12-31 23:59:59.999999'::timestamptz",
    "'epoch'::timestamptz",
    "'10889-08-03'::timestamptz",
];
const FENCES: &[&str] = &[
    "(SELECT max(r.fence) FROM idempotent.record AS r)",
    "(SELECT max(r.fence) FROM idempotent.record AS r)",
    "(SELECT min(r.fence) FROM idempotent.record AS r)",
    "(SELECT s.last_value FROM idempotent.fence AS s)",
    "1::bigint",
    "0::bigint",
    "-1::bigint",
    "9223372036854775807",
];
const ARRAYS: &[&str] = &[
    "'{}'::text[]",
    "'{sent_at}'::text[]",
    "'{/a/b,/a}'::text[]",
    "'{P0001,22}'::text[]",
    "'{NULL}'::text[]",
    "'{{a,b},{c,d}}'::text[]",
    "'{/~2}'::text[]",
    "'{40001}'::text[]",
    "ARRAY(SELECT 'm' || n FROM generate_series(1, 500) AS n)",
    "'[5:6]={a,b}'::text[]",
];
const HANDLERS: &[&str] = &[
    "'fuzz.same'",
    "'fuzz.same(jsonb)'",
    "'fuzz.writes'",
    "'fuzz.declines(jsonb)'",
    "'fuzz.divides(jsonb)'",
    "'fuzz.nothing(jsonb)'",
    "'fuzz.slow(jsonb)'",
    "'fuzz.enters(jsonb)'",
    "'fuzz.sweeps(jsonb)'",
    "'fuzz.is_no_handler(text)'",
    "'0'",
    "'4294967295'",
    "'pg_catalog.to_jsonb(anyelement)'",
    "'pg_catalog.jsonb_strip_nulls'::regproc::oid::text",
    "'fuzz.nowhere'",
    "'\"'",
];
