//! A session that may have no more memory: it fails alone, with 53200, wherever that finds it, and goes on afterwards.

use client::ask::is_usable;
use client::cluster::{Cluster, Result};
use client::connect::Server;

const MEBIBYTE: usize = 1024 * 1024;

const SETUP: &str = "
CREATE EXTENSION pg_idempotent;
CREATE FUNCTION same(request jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT request';
CREATE FUNCTION loud(request jsonb) RETURNS jsonb LANGUAGE plpgsql
  AS $$ BEGIN RAISE '%', repeat('a word ', (request->>'words')::integer); END $$;
SELECT idempotent_operation('op', max_response_bytes => 2147483647, store_failures => '{P0001}');
SELECT idempotent_run('op', 'before', '1', 'same(jsonb)');
BEGIN;
SELECT idempotent_claim('op', 'large');
SELECT idempotent_complete('op', 'large', body => convert_to(repeat('large', 4000000), 'UTF8'));
COMMIT;
";

/// Each wants much, in its own way. `{}` is the number of the round.
const GREEDY: [&str; 7] = [
    "SELECT count(idempotent_claim('op', '{} ' || n)) FROM generate_series(1, 60000) AS n",
    "DO $$ BEGIN FOR n IN 1..20000 LOOP BEGIN PERFORM idempotent_claim('op', '{} ' || n); EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP; END $$",
    "SELECT idempotent_run('op', '{}', jsonb_build_object('words', 3000000), 'loud(jsonb)')",
    "SELECT idempotent_claim('op', '{}', to_jsonb(repeat('request', 3000000)))",
    "SELECT idempotent_claim('op', '{}'); SELECT idempotent_complete('op', '{}', to_jsonb(repeat('answer', 3000000)))",
    "SELECT length((idempotent_replay('op', 'large')).body)",
    "SELECT idempotent_operation('excluding', fingerprint_exclude => array_agg(n::text)) FROM generate_series(1, 100000) AS n",
];

#[test]
fn a_session_without_memory_fails_alone_and_goes_on() -> Result<()> {
    let cluster = Cluster::start("shared_preload_libraries = 'pg_idempotent'")?;
    let server = cluster.database("shop")?;
    server.wire().run(SETUP);
    let mut refused = [0; GREEDY.len()];
    for (kind, greedy) in GREEDY.iter().enumerate() {
        // Fresh, as what a process has once had it hardly gives back. The limit moves, so that it strikes elsewhere.
        for round in 0..8 {
            let sql = greedy.replace("{}", &format!("{kind} {round}"));
            let code = within(&cluster, &server, round * MEBIBYTE * 2 + MEBIBYTE / 2, &sql)?;
            assert!(code.is_empty() || code == "53200", "{code} in {sql}");
            refused[kind] += usize::from(!code.is_empty());
        }
    }
    assert!(refused.iter().all(|refused| *refused > 1), "limits that nobody felt: {refused:?}");
    // An answer without a date is in the unlogged table: had the server restarted, it would be gone.
    assert_eq!(server.wire().replay("before").response, "1");
    assert!(cluster.said(&["terminated by signal"])?.is_empty());
    Ok(())
}

/// The SQLSTATE of what a session says that may have so much more memory than it has, in a transaction that is rolled
/// back; then it may have what it wants, and must be as good as new.
fn within(cluster: &Cluster, server: &Server, bytes: usize, sql: &str) -> Result<String> {
    let mut wire = server.wire();
    wire.run("SELECT idempotent_replay('op', 'before'); SELECT 1 FROM idempotent_explain('op', 'before')");
    wire.run("BEGIN");
    cluster.limit(&wire, Some(bytes))?;
    let code = wire.call(sql).code().to_owned();
    cluster.limit(&wire, None)?;
    wire.run("ROLLBACK");
    let locks =
        "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'";
    assert_eq!(wire.run(locks).value(), "0");
    let key = format!("after {}", wire.pid());
    is_usable(&mut wire, &key);
    Ok(code)
}
