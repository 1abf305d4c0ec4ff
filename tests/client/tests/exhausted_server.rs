//! What a server has only so much of: locks, connections, prepared transactions, stack, time, size of a value. Whoever
//! asks for more is told so by an SQLSTATE; nothing is lost, nothing stays locked, and the key is usable.

use client::ask::is_usable;
use client::cluster::{Cluster, Result};
use client::watch::wait_until;
use client::wire::quote;
use client::{Reply, Scratch, Wire};

use crate::backlog::{fill, install, start, wait_until_swept};

fn key_locks(wire: &mut Wire) -> String {
    wire.run("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 478")
        .value()
        .to_owned()
}

#[track_caller]
fn is_clear(reply: &Reply, code: &str, words: &str) {
    let refusal = reply.refusal.as_ref().expect("a refusal");
    assert_eq!(refusal.code, code, "{refusal:?}");
    assert!(refusal.message.contains(words), "{refusal:?}");
}

#[test]
fn with_a_full_lock_table_claims_are_refused_and_replays_answered() -> Result<()> {
    let cluster = Cluster::start("max_locks_per_transaction = 10\nmax_connections = 10")?;
    let server = install(&cluster, "shop")?;
    let (mut hog, mut wire, mut other) = (server.wire(), server.wire(), server.wire());
    is_usable(&mut wire, "before");
    is_usable(&mut other, "also before");
    // It has written already, so that it needs no more locks.
    wire.run("BEGIN");
    assert_eq!(wire.claim("written", "").outcome, "claimed");
    wire.complete("written", "1", "");
    assert_eq!(wire.claim("held", "").outcome, "claimed");
    // Each in a savepoint, so that the one that is too much takes no other along.
    hog.run(
        "BEGIN; DO $$ BEGIN FOR n IN 1..100000 LOOP
               BEGIN PERFORM pg_advisory_xact_lock(n); EXCEPTION WHEN out_of_memory THEN EXIT; END;
             END LOOP; END $$",
    );
    other.run("BEGIN");
    let refused = other.call("SELECT idempotent_claim('op', 'refused')");
    is_clear(&refused, "53200", "out of shared memory");
    let hint = refused.refusal.and_then(|refusal| refusal.hint).unwrap_or_default();
    assert!(hint.contains("max_locks_per_transaction"), "{hint}");
    other.run("ROLLBACK");
    assert_eq!(other.replay("before").response, "true");
    // Who had his lock before goes on.
    wire.complete("held", "1", "");
    wire.run("COMMIT");
    assert_eq!(other.replay("held").response, "1");
    hog.run("ROLLBACK");
    is_usable(&mut other, "refused");
    assert_eq!(key_locks(&mut other), "0");
    Ok(())
}

#[test]
fn with_all_connections_taken_those_who_are_in_go_on_and_the_sweeper_sweeps() -> Result<()> {
    let cluster =
        start("max_connections = 6\nsuperuser_reserved_connections = 0\nreserved_connections = 0")?;
    let server = install(&cluster, "shop")?;
    let mut wire = server.wire();
    let mut idle = Vec::new();
    let refused = loop {
        match Wire::connect(&server, "one more", "") {
            Ok(wire) => idle.push(wire),
            Err(error) => break error.to_string(),
        }
    };
    assert!(refused.starts_with("53300"), "{refused}");
    is_usable(&mut wire, "in");
    is_usable(&mut idle[0], "in, too");
    fill(&mut wire, "record", 100);
    wait_until_swept(&mut wire, "record");
    drop(idle);
    wait_until("there is room again", || Wire::connect(&server, "at last", "").is_ok());
    Ok(())
}

#[test]
fn without_room_for_a_prepared_transaction_the_key_is_free_again() -> Result<()> {
    let cluster = Cluster::start("max_prepared_transactions = 1")?;
    let server = install(&cluster, "shop")?;
    let (mut first, mut second) = (server.wire(), server.wire());
    for (wire, key) in [(&mut first, "first"), (&mut second, "second")] {
        wire.run("BEGIN");
        assert_eq!(wire.claim(key, "").outcome, "claimed");
        wire.complete(key, "1", "");
    }
    first.run("PREPARE TRANSACTION 'first'");
    let refused = second.call("PREPARE TRANSACTION 'second'");
    is_clear(&refused, "53200", "maximum number of prepared transactions reached");
    assert_eq!(second.replay("second").outcome, "absent");
    is_usable(&mut second, "second");
    assert_eq!(second.claim("first", ", wait => '0'").outcome, "in_progress");
    first.run("COMMIT PREPARED 'first'");
    assert_eq!(second.replay("first").response, "1");
    Ok(())
}

#[test]
fn handlers_that_call_handlers_without_end_are_stopped_by_the_stack_limit() {
    let scratch = Scratch::new();
    let mut wire = scratch.wire();
    wire.run(
        "CREATE TABLE effect (n integer);
         CREATE FUNCTION deeper(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN
           INSERT INTO effect VALUES (request::integer);
           RETURN (idempotent_run('op', 'level ' || request::text, to_jsonb(request::integer + 1), 'deeper(jsonb)')).response;
         END $$;
         SELECT idempotent_operation('storing', store_failures => '{54}')",
    );
    let dive = |operation: &str| {
        format!("SELECT idempotent_run('{operation}', 'top', '1', 'deeper(jsonb)')")
    };
    is_clear(&wire.call(&dive("op")), "54001", "stack depth limit exceeded");
    assert_eq!(wire.run("SELECT count(*) FROM effect").value(), "0");
    assert_eq!(wire.replay("level 1").outcome, "absent");
    assert_eq!(key_locks(&mut wire), "0");
    // The same as a failure that is stored: what was deep in there is undone, and the claims with it.
    wire.run(&dive("storing"));
    assert_eq!(
        wire.run("SELECT (idempotent_replay('storing', 'top')).response ->> 'sqlstate'").value(),
        "54001"
    );
    assert_eq!(wire.run("SELECT count(*) FROM effect").value(), "0");
    is_usable(&mut wire, "level 1");

    let nested =
        format!("SELECT (idempotent_claim('op', 'nested', ({})::jsonb)).outcome", nest(2_000));
    wire.run("BEGIN");
    assert_eq!(wire.run(&nested).value(), "claimed");
    wire.run("ROLLBACK");
}

fn nest(depth: usize) -> String {
    quote(&format!("{}{}", "[".repeat(depth), "]".repeat(depth)))
}

#[test]
fn statements_that_are_cancelled_anywhere_leave_nothing_held_or_half_done() {
    let scratch = Scratch::new();
    let mut wire = scratch.wire();
    wire.run(
        "CREATE TABLE effect (key text);
         CREATE FUNCTION work(request jsonb) RETURNS jsonb LANGUAGE sql
           AS 'INSERT INTO effect VALUES (request->>''key''); SELECT request'",
    );
    let mut cancelled = 0;
    for round in 0..150 {
        // Each time a little later, so that it strikes everywhere.
        wire.run(&format!("SET statement_timeout = '{} ms'", 1 + round % 25));
        let reply = wire.call(&format!(
            "DO $$ BEGIN FOR n IN 1..400 LOOP
               PERFORM idempotent_run('op', '{round} ' || n, jsonb_build_object('key', '{round} ' || n), 'work(jsonb)');
               PERFORM idempotent_claim('op', '{round} lease ' || n, lease => '1 hour');
               PERFORM idempotent_claim('op', 'given back'); PERFORM idempotent_release('op', 'given back');
             END LOOP; END $$"
        ));
        assert!(["", "57014"].contains(&reply.code()), "{:?}", reply.refusal);
        cancelled += usize::from(!reply.code().is_empty());
        wire.run("RESET statement_timeout");
        assert_eq!(key_locks(&mut wire), "0");
    }
    assert!(cancelled > 20, "{cancelled}");
    let unlike = "SELECT count(*) FROM effect FULL JOIN (SELECT key FROM idempotent.record WHERE state = 'c') AS r USING (key)
                  WHERE effect.key IS NULL OR r.key IS NULL";
    assert_eq!(wire.run(unlike).value(), "0");
    assert_eq!(wire.run("SELECT count(*) - count(DISTINCT key) FROM effect").value(), "0");
    is_usable(&mut wire, "given back");
}

#[test]
fn a_handler_that_may_write_no_more_temporary_files_leaves_its_key_free() {
    let scratch = Scratch::new();
    let mut wire = scratch.wire();
    wire.run(
        "CREATE FUNCTION sorting(request jsonb) RETURNS jsonb LANGUAGE sql AS
           'SELECT to_jsonb(max(n)) FROM (SELECT n FROM generate_series(1, 300000) AS n ORDER BY md5(n::text) OFFSET 1) AS s'",
    );
    let run = "SELECT outcome FROM idempotent_run('op', 'sorted', '1', 'sorting(jsonb)')";
    wire.run("SET work_mem = '64kB'; SET temp_file_limit = '1MB'");
    is_clear(&wire.call(run), "53400", "temp_file_limit");
    assert_eq!(key_locks(&mut wire), "0");
    wire.run("RESET temp_file_limit");
    assert_eq!(wire.run(run).value(), "executed");
}

/// Of Postgres' values none is larger than 1 GiB, and a `bytea` as text has twice its size.
#[test]
fn answers_too_large_to_be_shown_are_recorded_without_their_body() {
    let scratch = Scratch::new();
    let mut wire = scratch.wire();
    wire.run("SELECT idempotent_operation('op', max_response_bytes => 2147483647)");
    wire.run("CREATE FUNCTION bytes(size integer) RETURNS bytea LANGUAGE sql AS $$ SELECT convert_to(repeat('x', size), 'UTF8') $$");
    let complete = |size: usize, more: &str| {
        format!("SELECT idempotent_complete('op', 'large', body => bytes({size}){more})")
    };
    let large = "SELECT evicted, length(body), failed FROM idempotent_replay('op', 'large')";
    for (size, kept) in [(64 << 20, true), (520 << 20, false)] {
        wire.run("BEGIN");
        assert_eq!(wire.claim("large", "").outcome, "claimed");
        wire.run(&complete(size, ", headers => '{}'"));
        let answer = wire.run(large).row().to_vec();
        let length = kept.then(|| size.to_string());
        assert_eq!(
            answer,
            [Some(if kept { "f" } else { "t" }.to_owned()), length, Some("f".to_owned())]
        );
        // It can be shown, too.
        wire.run("SELECT idempotent_replay('op', 'large')");
        wire.run("ROLLBACK");
    }
    let key = "SELECT idempotent_claim('op', repeat('k', 200 * 1024 * 1024))";
    is_clear(&wire.call(key), "ID006", "key");
    let label = "SELECT idempotent_operation('op', durability => repeat('k', 200 * 1024 * 1024))";
    let refused = wire.call(label);
    is_clear(&refused, "22023", "durability cannot be \"kkk");
    assert!(refused.refusal.is_some_and(|refusal| refusal.message.len() < 400));
    is_usable(&mut wire, "large");
}
