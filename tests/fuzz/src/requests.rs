//! Requests: `jsonb`'s own `=` is the oracle. Equal documents have equal fingerprints and are replayed, others are a
//! mismatch; with excluded members, what is left decides. The key is the digest that the domain makes without a server.

use std::fmt::Write as _;

use client::cluster::Result;
use client::wire::{Wire, quote};
use domain::budget::Budget;
use domain::document::{Choices, Document, names, numbers, pairs, paths, pointer, texts};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use rules::request::{exclude::Exclusions, fingerprint::Canonical};

use crate::hex::hex;
use crate::stage::{self, Stage};

/// What Postgres refuses to read as jsonb: too deep, too large a number, too long a string.
const REFUSED_BY_POSTGRES: [&str; 5] = ["54001", "54000", "22003", "22P02", "22023"];

#[derive(Clone, Debug)]
struct Case {
    one: Document,
    other: Document,
    paths: Vec<Vec<String>>,
    escape: u64,
}

/// Ordinary ones, and those at the limits of what jsonb can hold.
fn cases() -> BoxedStrategy<Case> {
    let paths = prop_oneof![2 => Just(Vec::new()), 1 => paths()];
    let ordinary = (pairs(), paths, any::<u64>()).prop_map(|((one, other), paths, escape)| Case {
        one,
        other,
        paths,
        escape,
    });
    let extreme = (extremes(), any::<u64>()).prop_map(|(one, seed)| {
        let mut choices = Choices::new(seed);
        let changed = choices.below(2) == 0;
        let other = if changed { one.changed(&mut choices) } else { one.clone() };
        let other = other.respelled(&mut choices);
        Case { one, other, paths: Vec::new(), escape: seed }
    });
    prop_oneof![30 => ordinary, 1 => extreme].boxed()
}

fn extremes() -> BoxedStrategy<Document> {
    let exponent = prop_oneof![16_370..16_390_i32, 131_060..131_080_i32, 300..2000_i32];
    let number = (numbers(), exponent, any::<bool>()).prop_map(|(number, exponent, small)| {
        let mantissa = number.split(['e', 'E']).next().unwrap_or("1").to_owned();
        Document::Number(format!("{mantissa}e{}{exponent}", if small { "-" } else { "" }))
    });
    let digits = (1..20_000_usize, 0..16_383_usize).prop_map(|(whole, fraction)| {
        Document::Number(format!("1{}.{}1", "0".repeat(whole), "0".repeat(fraction)))
    });
    let deep = (prop_oneof![1..200_usize, 1000..8000_usize], numbers(), any::<bool>()).prop_map(
        |(depth, number, object)| {
            (0..depth).fold(Document::Number(number), |inner, _| {
                if object {
                    Document::Object(vec![("a".to_owned(), inner)])
                } else {
                    Document::Array(vec![inner])
                }
            })
        },
    );
    let long = (texts(), 1..200_000_usize).prop_map(|(text, times)| {
        Document::Text(text.repeat(times.min(2_000_000 / text.len().max(1))))
    });
    let wide = (numbers(), 1..30_000_usize).prop_map(|(number, count)| {
        Document::Array((0..count).map(|_| Document::Number(number.clone())).collect())
    });
    let broad = (names(), numbers(), 1..5000_usize).prop_map(|(name, number, count)| {
        Document::Object(
            (0..count)
                .map(|at| (format!("{name}{at}"), Document::Number(number.clone())))
                .collect(),
        )
    });
    prop_oneof![4 => number, 2 => digits, 2 => deep, 1 => long, 1 => wide, 1 => broad].boxed()
}

pub fn run(stage: &Stage, budget: Budget) -> Result<String> {
    let server = stage.database("requests", "")?;
    stage::set_up(&server, include_str!("requests.sql"))?;
    let mut wire = server.wire();
    let (mut equal, mut refused) = (0_u64, 0_u64);
    let cases = budget.spend(&cases(), &mut |case| {
        let result = judge(&mut wire, &case, &mut equal, &mut refused);
        if result.is_err() {
            // Smaller cases are tried next, and none of them in what this one has left.
            wire = stage::again(&server);
        }
        result
    })?;
    if equal * 10 < cases {
        return Err(format!("only {equal} of {cases} pairs were equal: nothing was proved").into());
    }
    Ok(format!(
        "{cases} pairs of requests, {equal} equal, {refused} that jsonb cannot hold: no difference from jsonb's ="
    ))
}

fn judge(wire: &mut Wire, case: &Case, equal: &mut u64, refused: &mut u64) -> TestCaseResult {
    let (one, other) = (case.one.json(case.escape), case.other.json(!case.escape));
    let json = |text: &str| format!("{}::jsonb", quote(text));
    let names = Document::Array(
        case.paths
            .iter()
            .map(|path| Document::Array(path.iter().cloned().map(Document::Text).collect()))
            .collect(),
    );
    let mut entries = String::from("'{}'");
    for (at, path) in case.paths.iter().enumerate() {
        if at == 0 {
            entries = String::from("ARRAY[]::text[]");
        }
        // Writing to a String cannot fail.
        let _ = write!(entries, " || {}::text", quote(&pointer(path)));
    }
    let reply = wire.call(&format!(
        "SELECT * FROM fuzz.judge({}, {}, {}, {entries})",
        json(&one),
        json(&other),
        json(&names.json(0))
    ));
    prop_assert_ne!(reply.transaction, 'X', "the connection was closed");
    if let Some(refusal) = &reply.refusal {
        // Then it is Postgres alone that refuses: without us it does, too.
        let alone = wire.call(&format!("SELECT {}, {}", json(&one), json(&other)));
        prop_assert_eq!(alone.code(), refusal.code.as_str(), "{:?}", refusal);
        prop_assert!(REFUSED_BY_POSTGRES.contains(&alone.code()), "{:?}", refusal);
        *refused += 1;
        return Ok(());
    }
    let row: Vec<&str> =
        reply.rows[0].iter().map(|value| value.as_deref().unwrap_or("(null)")).collect();
    let (same, pruned_same) = (row[0] == "t", row[1] == "t");
    if let (Some(one), Some(other)) = (case.one.meaning(), case.other.meaning()) {
        prop_assert_eq!(same, one == other, "jsonb and the bignum crate disagree");
    }
    prop_assert_eq!(row[2] == row[3], same, "the keys of the requests");
    prop_assert_eq!(row[4], row[2], "the key of what a table holds");
    prop_assert_eq!(
        row[5],
        if pruned_same { "replay" } else { "mismatch" },
        "asked with the other"
    );
    prop_assert_eq!(row[6], "replay", "asked with the same");
    prop_assert_eq!(row[2], digest(&case.one), "the digest of the domain");
    *equal += u64::from(same);
    Ok(())
}

fn digest(document: &Document) -> String {
    let exclude = Exclusions::default();
    let mut canonical = Canonical::new(&exclude);
    document.tokens(&mut |token| canonical.token(token));
    hex(&canonical.finish())
}
