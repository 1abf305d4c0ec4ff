//! 10,000 calls under 64 connections over 100 keys, by the ordinary driver with prepared statements.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;

use client::Scratch;
use postgres::{Client, Statement};

const CALLS: usize = 10_000;
const CONNECTIONS: usize = 64;
const KEYS: usize = 100;

/// What one call was told: the key, the outcome, the answer.
type Told = (String, String, Option<String>);

const WORK: &str = "
    CREATE TABLE effect (id bigint GENERATED ALWAYS AS IDENTITY, key text NOT NULL);
    CREATE FUNCTION work(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
    DECLARE written bigint;
    BEGIN
        INSERT INTO effect (key) VALUES (request->>'key') RETURNING id INTO written;
        RETURN jsonb_build_object('effect', written);
    END $$";

/// Two such tests at once would want more connections than the server has.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// All connections wait for each other, then take calls off one counter until there is none left. Neighbouring calls
/// are for the same key, so that a key's hundred calls meet each other.
fn storm(
    scratch: &Scratch,
    statements: &[&str],
    call: impl Fn(&mut Client, &[Statement], &str, usize) -> Told + Sync,
) -> Vec<Told> {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let start = Barrier::new(CONNECTIONS);
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = scratch.admin();
                    let prepared: Vec<_> =
                        statements.iter().map(|sql| client.prepare(sql).unwrap()).collect();
                    let mut told = Vec::new();
                    start.wait();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= CALLS {
                            return told;
                        }
                        let key = format!("key {}", number * KEYS / CALLS);
                        told.push(call(&mut client, &prepared, &key, number));
                    }
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no call fails")).collect()
    })
}

/// One `first` outcome per key, every other call a replay, one effect per key, and one answer: that of the effect.
fn judge(scratch: &Scratch, told: &[Told], first: &str) {
    let effects: HashMap<String, i64> = scratch
        .admin()
        .query("SELECT key, id FROM effect", &[])
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    let rows: i64 = scratch.admin().query_one("SELECT count(*) FROM effect", &[]).unwrap().get(0);
    assert_eq!(rows, KEYS as i64, "one effect per key");
    assert_eq!(effects.len(), KEYS);
    for (key, effect) in &effects {
        let of_key: Vec<_> = told.iter().filter(|(told_key, ..)| told_key == key).collect();
        let count =
            |wanted: &str| of_key.iter().filter(|(_, outcome, _)| outcome == wanted).count();
        assert_eq!(count(first), 1, "{key} is {first} by one call");
        assert_eq!(
            count(first) + count("replay"),
            of_key.len(),
            "every other call for {key} is a replay"
        );
        let answer = format!(r#"{{"effect": {effect}}}"#);
        for (_, _, response) in &of_key {
            assert_eq!(
                response.as_deref(),
                Some(answer.as_str()),
                "every call for {key} gets the answer of its effect"
            );
        }
    }
}

#[test]
fn ten_thousand_runs_over_a_hundred_keys_have_a_hundred_effects() {
    let scratch = Scratch::new();
    scratch.admin().batch_execute(WORK).unwrap();
    let told = storm(
        &scratch,
        &["SELECT outcome, response::text
             FROM idempotent_run('op', $1, jsonb_build_object('key', $1::text), 'work(jsonb)', wait => '5 minutes')"],
        |client, prepared, key, _| {
            let row = client.query_one(&prepared[0], &[&key]).unwrap();
            (key.to_owned(), row.get(0), row.get(1))
        },
    );
    assert_eq!(told.len(), CALLS);
    judge(&scratch, &told, "executed");
}

#[test]
fn ten_thousand_claims_over_a_hundred_keys_have_a_hundred_effects_though_every_third_holder_rolls_back()
 {
    let scratch = Scratch::new();
    scratch.admin().batch_execute(WORK).unwrap();
    let told = storm(
        &scratch,
        &[
            "SELECT outcome, response::text
               FROM idempotent_claim('op', $1, jsonb_build_object('key', $1::text), wait => '5 minutes')",
            "SELECT idempotent_complete('op', $1, work(jsonb_build_object('key', $1::text)))::text",
        ],
        |client, prepared, key, number| {
            for attempt in 0.. {
                let mut transaction = client.transaction().unwrap();
                let row = transaction.query_one(&prepared[0], &[&key]).unwrap();
                let (outcome, mut response): (String, Option<String>) = (row.get(0), row.get(1));
                if outcome == "claimed" {
                    response = transaction.query_one(&prepared[1], &[&key]).unwrap().get(0);
                    if attempt == 0 && number % 3 == 0 {
                        transaction.rollback().unwrap();
                        continue;
                    }
                }
                transaction.commit().unwrap();
                return (key.to_owned(), outcome, response);
            }
            unreachable!()
        },
    );
    assert_eq!(told.len(), CALLS);
    judge(&scratch, &told, "claimed");
}
