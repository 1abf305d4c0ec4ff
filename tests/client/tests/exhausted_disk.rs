//! A disk that is full. Root mounts a small one for the test; and for everybody there is a disk that is
//! full for one session alone, which may not make its files any longer.

use std::fs;

use client::Wire;
use client::ask::{claim, complete};
use client::cluster::{Cluster, Result};
use client::figures::note;

const SETTINGS: &str = "
shared_preload_libraries = 'pg_idempotent'
max_wal_size = 48MB
min_wal_size = 32MB
";
/// The data directory of an empty server, its log included, and some room.
const DISK: usize = 192;
/// A claim and an answer of 100 kB that cannot be compressed; `$` is the number.
const STORE: &str = "BEGIN; SELECT idempotent_claim('op', 'k$', '{\"n\": 1}');
    SELECT idempotent_complete('op', 'k$', to_jsonb((SELECT string_agg(md5(($ * 4000 + n)::text), '') FROM generate_series(1, 3000) AS n))); COMMIT";

fn store(wire: &mut Wire, number: usize) -> String {
    let code = wire.call(&STORE.replace('$', &number.to_string())).code().to_owned();
    wire.run("ROLLBACK");
    code
}

/// Stores until there is no room; how many answers went in.
fn store_until_full(wire: &mut Wire, from: usize, words: &str) -> usize {
    for number in from..from + 5_000 {
        let code = store(wire, number);
        if !code.is_empty() {
            assert_eq!(code, words, "{number}");
            return number;
        }
    }
    panic!("a disk without end")
}

fn all_there(wire: &mut Wire, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let answer = wire.replay(&format!("k{number}"));
        assert_eq!(
            (answer.outcome.as_str(), answer.response.len()),
            ("replay", 96_002),
            "{number}"
        );
    }
}

#[test]
fn a_full_disk_refuses_answers_and_loses_none() -> Result<()> {
    let Some(cluster) = Cluster::start_on_a_disk_of(DISK, SETTINGS)? else {
        note(
            "NOT TRIED: a full disk, as none may be mounted here; a file that may not grow is another test",
        );
        return Ok(());
    };
    let server = cluster.database("shop")?;
    let mut wire = server.wire();
    wire.run("CREATE EXTENSION pg_idempotent");
    let ballast = cluster.data().join("ballast");
    let mut stored = 0;
    for durability in ["unlogged", "logged"] {
        wire.run(&format!("SELECT idempotent_operation('op', durability => '{durability}')"));
        wire.run("CHECKPOINT");
        fill(&ballast, 12)?;
        let refused = store_until_full(&mut wire, stored, "53100");
        assert!(refused > stored, "room for some, at least");
        // Nobody holds the key, and what is stored is there; the next one fares no better.
        assert_eq!(wire.replay(&format!("k{refused}")).outcome, "absent");
        wire.run(&format!("BEGIN; {}; ROLLBACK", claim(&format!("k{refused}"), ", wait => '0'")));
        assert_eq!(store(&mut wire, refused), "53100");
        all_there(&mut wire, stored..refused);
        fs::remove_file(&ballast)?;
        assert_eq!(store(&mut wire, refused), "");
        stored = refused + 1;
    }
    wire.run(&complete_at_once("last"));

    // Without room for the write-ahead log Postgres gives up, and comes back when there is some.
    fill(&ballast, 0)?;
    let log = "DO $$ BEGIN FOR n IN 1..40 LOOP PERFORM pg_logical_emit_message(false, '', repeat('x', 1000000)); END LOOP; END $$";
    while wire.call(log).transaction != 'X' {}
    fs::remove_file(&ballast)?;
    if server.client().is_err() {
        // It may have found no room to recover, either.
        let _ = cluster.crash();
        cluster.resume()?;
    }
    let mut wire = server.wire();
    all_there(&mut wire, 0..stored);
    assert_eq!(wire.replay("last").response, "true");
    assert_eq!(store(&mut wire, stored), "");
    Ok(())
}

fn complete_at_once(key: &str) -> String {
    format!("BEGIN; {}; {}; COMMIT", claim(key, ""), complete(key, "true", ""))
}

/// Leaves so many mebibytes free.
fn fill(ballast: &std::path::Path, mebibytes: usize) -> Result<()> {
    let block = vec![b'x'; 1 << 20];
    let mut file = fs::File::create(ballast)?;
    let mut written: usize = 0;
    while std::io::Write::write_all(&mut file, &block).is_ok() {
        written += 1;
    }
    let left = u64::try_from(written.saturating_sub(mebibytes) << 20)?;
    if mebibytes > 0 {
        file.set_len(left)?;
    }
    Ok(())
}

#[test]
fn a_session_that_may_not_make_its_files_any_longer_loses_no_answer() -> Result<()> {
    let cluster = Cluster::start(SETTINGS)?;
    let server = cluster.database("shop")?;
    let (mut wire, mut other) = (server.wire(), server.wire());
    wire.run("CREATE EXTENSION pg_idempotent; SELECT idempotent_operation('op', durability => 'unlogged')");
    // Longer than a file of the write-ahead log: without that Postgres would give up.
    cluster.limit_files(&wire, Some(20 << 20))?;
    // Postgres has no SQLSTATE of its own for a file that is too large.
    let refused = store_until_full(&mut wire, 0, "XX000");
    assert!(refused > 0);
    assert_eq!(other.replay(&format!("k{refused}")).outcome, "absent");
    all_there(&mut other, 0..refused);
    cluster.limit_files(&wire, None)?;
    assert_eq!(store(&mut wire, refused), "");
    all_there(&mut other, 0..refused + 1);
    Ok(())
}
