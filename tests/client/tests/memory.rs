//! What a session keeps of a million calls: nothing. Measured from outside, as the kernel counts a process' own memory.

use std::env;
use std::fs;
use std::time::Instant;

use client::figures::note;
use client::{Scratch, Wire};

const SETUP: &str = "
CREATE FUNCTION same(request jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT request';
CREATE FUNCTION broken(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE 'broken'; END $$;
SELECT idempotent_operation('refusing', store_failures => '{P0001}');
SELECT idempotent_run('op', 'done ' || n, '{\"n\": 1}', 'same(jsonb)') FROM generate_series(1, 1000) AS n;
";

/// What is called again and again.
struct Part {
    name: &'static str,
    /// Statements of PL/pgSQL; `n` counts from 1.
    body: &'static str,
    /// How many calls of the extension that is.
    calls: usize,
    rounds: usize,
    /// What Postgres itself keeps until the end of a transaction, in bytes a round.
    kept: usize,
}

const fn part(name: &'static str, body: &'static str, calls: usize, rounds: usize) -> Part {
    Part { name, body, calls, rounds, kept: 0 }
}

/// Calls that leave nothing new behind, so that one transaction can make any number of them.
const REPEATED: [Part; 12] = [
    part("replay", "answer := idempotent_replay('op', 'done ' || n % 1000 + 1)", 1, 200_000),
    part(
        "claim of what is done",
        "answer := idempotent_claim('op', 'done ' || n % 1000 + 1, '{\"n\": 1}')",
        1,
        200_000,
    ),
    part(
        "run of what is done",
        "answer := idempotent_run('op', 'done ' || n % 1000 + 1, '{\"n\": 1}', 'same(jsonb)')",
        1,
        100_000,
    ),
    part(
        "claim and release",
        "answer := idempotent_claim('op', 'mine'); PERFORM idempotent_release('op', 'mine')",
        2,
        100_000,
    ),
    part(
        "claim, complete, roll back",
        "BEGIN answer := idempotent_claim('op', 'undone ' || n % 1000);
           PERFORM idempotent_complete('op', 'undone ' || n % 1000, '1'); RAISE 'undo';
         EXCEPTION WHEN raise_exception THEN NULL; END",
        2,
        50_000,
    ),
    part(
        "run, roll back",
        "BEGIN answer := idempotent_run('op', 'undone ' || n % 1000, '1', 'same(jsonb)'); RAISE 'undo';
         EXCEPTION WHEN raise_exception THEN NULL; END",
        1,
        30_000,
    ),
    part(
        "a handler that fails",
        "BEGIN answer := idempotent_run('op', 'broken', '1', 'broken(jsonb)');
         EXCEPTION WHEN raise_exception THEN NULL; END",
        1,
        20_000,
    ),
    part(
        "refusals",
        "BEGIN PERFORM idempotent_claim('op', ''); EXCEPTION WHEN OTHERS THEN NULL; END;
         BEGIN PERFORM idempotent_complete('op', 'nobody''s', '1'); EXCEPTION WHEN OTHERS THEN NULL; END;
         BEGIN PERFORM idempotent_claim('op', 'done 1', '2', strict => true); EXCEPTION WHEN OTHERS THEN NULL; END",
        3,
        30_000,
    ),
    part("a thousand operations and more", "answer := idempotent_replay('op ' || n % 3000, 'k')", 1, 50_000),
    part(
        "keys",
        "PERFORM idempotent_new_key(), idempotent_request_key('{\"n\": 1}'), idempotent_derive_key('op', 'k', 'l')",
        3,
        20_000,
    ),
    part("explain", "PERFORM idempotent_explain('op', 'done 1')", 1, 3_000),
    // A row that a transaction writes and deletes: Postgres remembers by which commands (utils/time/combocid.c).
    Part {
        kept: 110,
        ..part(
            "lease, checkpoint, complete, forget",
            "answer := idempotent_claim('op', 'lease ' || n % 5000, lease => '1 hour');
             PERFORM idempotent_checkpoint('op', 'lease ' || n % 5000, '1', fence => answer.fence);
             PERFORM idempotent_complete('op', 'lease ' || n % 5000, '1', fence => answer.fence);
             PERFORM idempotent_forget('op', 'lease ' || n % 5000)",
            4,
            10_000,
        )
    },
];

/// Calls that leave records, each in a transaction of its own.
const LASTING: [Part; 4] = [
    part(
        "run",
        "answer := idempotent_run('op', 'run ' || n, '{\"n\": 1}', 'same(jsonb)')",
        1,
        100_000,
    ),
    part(
        "claim, complete",
        "answer := idempotent_claim('op', 'claim ' || n);
         PERFORM idempotent_complete('op', 'claim ' || n, '{\"done\": true}', status => 201)",
        2,
        100_000,
    ),
    part(
        "a failure that is stored",
        "answer := idempotent_run('refusing', 'failure ' || n, '1', 'broken(jsonb)')",
        1,
        30_000,
    ),
    part(
        "settings that change",
        "PERFORM idempotent_operation('op', retention => make_interval(hours => n % 9 + 1))",
        1,
        3_000,
    ),
];

/// What may come and go in a process without meaning anything: the allocator gives back to the system, and takes again, more
/// than a megabyte at a time.
const NOISE: usize = 2 * 1024 * 1024;

#[test]
fn a_million_calls_in_one_transaction_and_as_many_of_their_own_take_no_more_memory() {
    let scratch = Scratch::new();
    let mut wire = scratch.wire();
    wire.run(SETUP);
    let mut calls = 0;
    for (frame, title) in
        [(Frame::One, "in one transaction"), (Frame::Own, "each in a transaction of its own")]
    {
        if frame == Frame::One {
            wire.run("BEGIN");
        }
        let lasting: &[Part] = if frame == Frame::Own { &LASTING } else { &[] };
        for part in REPEATED.iter().chain(lasting) {
            let kept = if frame == Frame::One { part.kept } else { 0 };
            calls += measure(&mut wire, part, frame, title, kept);
        }
        if frame == Frame::One {
            wire.run("COMMIT");
        }
    }
    assert!(calls > 2_000_000 / share(), "{calls}");
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Frame {
    /// The transaction that is open.
    One,
    /// One for each round.
    Own,
}

/// One call in so many is made: all, but on a server that checks itself with every one.
fn share() -> usize {
    if env::var_os("ASSERTING").is_some() { 20 } else { 1 }
}

/// How many calls were measured.
fn measure(wire: &mut Wire, part: &Part, frame: Frame, title: &str, kept: usize) -> usize {
    let rounds = part.rounds / share();
    let calls = rounds * part.calls;
    let commit = if frame == Frame::Own { "COMMIT;" } else { "" };
    wire.run(&format!(
        "CREATE OR REPLACE PROCEDURE part(first integer, last integer) LANGUAGE plpgsql AS $part$
         DECLARE answer idempotent_result;
         BEGIN FOR n IN first..last LOOP {}; {commit} END LOOP; END $part$",
        part.body
    ));
    let warm = rounds / 10;
    wire.run(&format!("CALL part(1, {warm})"));
    let (before, began) = (own_memory(wire), Instant::now());
    wire.run(&format!("CALL part({warm} + 1, {warm} + {rounds})"));
    let (after, took) = (own_memory(wire), began.elapsed());
    let grown = after.saturating_sub(before);
    #[allow(clippy::cast_precision_loss)] // For people.
    note(&format!(
        "{title}, {}: {} calls, {} kB before, {} kB after, {:.2} bytes a call, {:.1} us a call",
        part.name,
        calls,
        before / 1024,
        after / 1024,
        grown as f64 / (calls) as f64,
        took.as_secs_f64() * 1e6 / (calls) as f64
    ));
    assert!(grown <= NOISE + kept * rounds, "{title}, {}: {grown} bytes more", part.name);
    calls
}

#[test]
fn a_hundred_thousand_keys_in_one_transaction_give_their_memory_back() {
    const KEYS: usize = 100_000;
    let scratch = Scratch::new();
    let (mut wire, mut other) = (scratch.wire(), scratch.wire());
    let claim_all = |round: usize| {
        format!(
            "SELECT count(idempotent_claim('op', '{round} ' || n)) FROM generate_series(1, {KEYS}) AS n"
        )
    };
    let complete_all = |round: usize| {
        format!(
            "SELECT count(idempotent_complete('op', '{round} ' || n, '{{}}')) FROM generate_series(1, {KEYS}) AS n"
        )
    };
    let before = own_memory(&wire);
    let mut after = Vec::new();
    for round in 1..=5 {
        let began = Instant::now();
        wire.run("BEGIN; SAVEPOINT s");
        wire.run(&claim_all(round));
        let held = own_memory(&wire);
        // One that is rolled back gives everything back, too.
        if round == 1 {
            assert_eq!(other.claim("1 99999", ", wait => '0'").outcome, "in_progress");
            wire.run("ROLLBACK TO s; COMMIT");
            assert_eq!(other.replay("1 99999").outcome, "absent");
        } else {
            wire.run(&complete_all(round));
            wire.run("COMMIT");
            assert_eq!(other.replay(&format!("{round} 99999")).response, "{}");
        }
        after.push(own_memory(&wire));
        note(&format!(
            "{KEYS} keys in one transaction, round {round}: {} kB while they are held, {} kB after, {:.1} s",
            held / 1024,
            after[round - 1] / 1024,
            began.elapsed().as_secs_f64()
        ));
    }
    assert!(after[0] < before + 4 * NOISE, "{before} {after:?}");
    assert!(after[4] <= after[2].max(after[3]) + NOISE, "{after:?}");
    assert!(after[4] < 24 * 1024 * 1024, "{after:?}");
}

/// Memory of the wire's backend that is no file's and shared with nobody, in bytes.
fn own_memory(wire: &Wire) -> usize {
    let status = format!("/proc/{}/status", wire.pid());
    let status = fs::read_to_string(status).expect("the backend runs on this machine");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .expect("a Linux of this century");
    let kilobytes = line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number");
    kilobytes * 1024
}
