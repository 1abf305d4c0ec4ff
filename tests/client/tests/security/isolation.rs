//! Two roles with an operation each: neither learns of the other's keys, nor changes what becomes of them.

use client::wire::quote;
use client::{Reply, Wire};

use super::{House, calls, members, try_it};

/// What is stored, and how the tables came to it.
const RECORDS: &str = "SELECT md5(string_agg(r::text, ' ' ORDER BY r.operation, r.key))
    FROM (TABLE idempotent.record UNION ALL TABLE idempotent.record_logged) AS r";

#[track_caller]
fn refusal(wire: &mut Wire, sql: &str) -> Reply {
    wire.run("BEGIN");
    let reply = wire.call(sql);
    wire.run("ROLLBACK");
    assert_eq!(reply.code(), "42501", "{sql}");
    reply
}

/// Whether a key is done, leased or was never heard of: the refusal is the same, word for word.
#[test]
fn a_refusal_does_not_tell_whether_there_is_such_a_key() {
    let house = House::new();
    let functions = members::functions(&mut house.admin());
    let mut right = house.login("right");
    // May administrate, and has no part in the operation.
    let mut operator = house.login("operator");
    let before = house.admin().run(RECORDS).value().to_owned();
    let mut compared = 0;
    for (function, call) in calls::of(&functions) {
        // In the transaction that everything is tried in, a CALL that commits is refused before it looks
        // at anything; its step is tried by itself.
        let has_key = call.has_operation()
            && call.function != "idempotent_saga_run"
            && call.arguments.iter().any(|(name, _)| *name == "key");
        for wire in [&mut right, &mut operator] {
            let own = house.on("left", &call.sql(function, None));
            if !has_key || try_it(wire, &own) == "ok" {
                continue;
            }
            let refusals: Vec<Reply> = ["done", "leased", "lapsed", "never"]
                .map(|key| call.sql(function, Some(("key", &quote(key)))))
                .map(|sql| refusal(wire, &house.on("left", &sql)))
                .into();
            let same = refusals.iter().all(|other| other.refusal == refusals[0].refusal);
            assert!(same, "{}: {refusals:?}", function.identity);
            compared += 1;
        }
    }
    assert!(compared > 20, "hardly anything was refused: {compared}");
    assert_eq!(house.admin().run(RECORDS).value(), before);
}

/// The owner's keys answer after all of that as they did before.
#[test]
fn what_others_try_changes_nothing_for_the_owner() {
    let house = House::new();
    let functions = members::functions(&mut house.admin());
    let mut right = house.login("right");
    for (function, call) in calls::of(&functions) {
        if call.has_operation() {
            // By itself, so that it would stay.
            right.call(&house.on("left", &call.sql(function, None)));
        }
    }
    let mut left = house.login("left");
    let outcome = |left: &mut Wire, key: &str| {
        left.run(&format!("SELECT outcome FROM idempotent_replay('left', {})", quote(key)))
            .value()
            .to_owned()
    };
    assert_eq!(outcome(&mut left, "done"), "replay");
    assert_eq!(outcome(&mut left, "leased"), "in_progress");
    assert_eq!(outcome(&mut left, "lapsed"), "unknown");
    assert_eq!(outcome(&mut left, "new"), "absent");
    let mine =
        house.on("left", "SELECT idempotent_complete({op}, 'leased', '1', fence => {fence})");
    assert_eq!(left.run(&mine).value(), "1");
}

/// The same key in two operations is two keys: also a lock that one holds is in nobody's way.
#[test]
fn nobody_can_block_a_key_of_anothers_operation() {
    let house = House::new();
    let (mut left, mut right) = (house.login("left"), house.login("right"));
    right.run("BEGIN");
    assert_eq!(right.run("SELECT outcome FROM idempotent_claim('right', 'k')").value(), "claimed");
    let taken = right.call("SAVEPOINT s; SELECT outcome FROM idempotent_claim('left', 'k')");
    assert_eq!(taken.code(), "42501");
    right.run("ROLLBACK TO s");
    let claim = "SELECT outcome FROM idempotent_claim('left', 'k', wait => '0')";
    assert_eq!(try_it(&mut left, claim), "ok");
    left.run("BEGIN");
    assert_eq!(left.run(claim).value(), "claimed");
    left.run("ROLLBACK");
    right.run("ROLLBACK");
    // Locks of callers' own making are of another class.
    right.run("BEGIN");
    let lock = "SELECT count(pg_advisory_xact_lock_shared(('x' || substr(md5(n::text), 1, 16))::bit(64)::bigint)) FROM generate_series(1, 10) AS n";
    right.run(lock);
    let classes = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid NOT IN (1, 2) AND pid = pg_backend_pid()";
    assert_eq!(right.run(classes).value(), "0");
    right.run("ROLLBACK");
}

/// A statement of the administrator's counts at once, also for a session that has used the operation before.
#[test]
fn a_role_that_is_taken_away_is_gone_for_open_sessions() {
    let house = House::new();
    let (mut left, mut right) = (house.login("left"), house.login("right"));
    let replay = "SELECT idempotent_replay('left', 'done')";
    assert_eq!(
        (try_it(&mut left, replay).as_str(), try_it(&mut right, replay).as_str()),
        ("ok", "42501")
    );
    house.admin().run("SELECT idempotent_operation('left', role => 'right')");
    assert_eq!(
        (try_it(&mut left, replay).as_str(), try_it(&mut right, replay).as_str()),
        ("42501", "ok")
    );
    house.admin().run("SELECT idempotent_revoke('right')");
    assert_eq!(try_it(&mut right, replay), "42501");
}
