//! Random statements: calls in all the places where SQL allows one.

use fastrand::Rng;

use super::catalog::Function;
use super::value::{KEYS, Scope};

/// In a block everything may fail, and what is broken inside must not be swallowed.
const SHOW_BROKEN: &str = "EXCEPTION WHEN OTHERS THEN IF SQLSTATE LIKE 'XX%' THEN RAISE; END IF;";
const SETTINGS: &[&str] = &[
    "idempotent.default_wait = 0",
    "idempotent.default_wait = '5ms'",
    "idempotent.clock_skew = 0",
    "idempotent.clock_skew = '1d'",
    "idempotent.scan_node = off",
    "debug_parallel_query = on",
    "enable_indexscan = off",
    "enable_seqscan = off",
    "jit = off",
    "work_mem = '64kB'",
    "lock_timeout = '1ms'",
    "plan_cache_mode = force_generic_plan",
    "search_path = pg_temp, public",
    "search_path = public, fuzz",
    "client_min_messages = debug5",
    "TimeZone = 'Pacific/Apia'",
    "DateStyle = 'SQL, DMY'",
    "IntervalStyle = 'iso_8601'",
    "bytea_output = 'escape'",
    "xmlbinary = 'hex'",
    "default_transaction_isolation = 'serializable'",
    "transaction_timeout = '50ms'",
    "idle_in_transaction_session_timeout = 0",
];

/// The next thing that a client says.
pub fn next(rng: &mut Rng, functions: &[Function], in_block: bool) -> String {
    match rng.u8(..100) {
        0..70 => calling(rng, functions),
        70..76 => "SAVEPOINT s".to_owned(),
        76..80 => "ROLLBACK TO s".to_owned(),
        80..82 => "RELEASE s".to_owned(),
        82..86 => format!("SET LOCAL {}", SETTINGS[rng.usize(..SETTINGS.len())]),
        86..88 => ["SET LOCAL ROLE fuzz_caller", "SET LOCAL ROLE fuzz_other", "RESET ROLE"]
            [rng.usize(..3)]
        .to_owned(),
        _ if in_block => match rng.u8(..10) {
            0..5 => "COMMIT".to_owned(),
            5..8 => "ROLLBACK".to_owned(),
            8 => format!("PREPARE TRANSACTION 'p{}'", rng.u8(..6)),
            _ => "COMMIT AND CHAIN".to_owned(),
        },
        _ => match rng.u8(..20) {
            0..12 => "BEGIN".to_owned(),
            12 => "BEGIN ISOLATION LEVEL REPEATABLE READ".to_owned(),
            13 => "BEGIN ISOLATION LEVEL SERIALIZABLE".to_owned(),
            14 => "BEGIN READ ONLY".to_owned(),
            15 => "DISCARD ALL".to_owned(),
            16 => "TRUNCATE fuzz.effect".to_owned(),
            17 => format!("ROLLBACK PREPARED 'p{}'", rng.u8(..6)),
            18 => "VACUUM idempotent.record".to_owned(),
            _ => format!("COMMIT PREPARED 'p{}'", rng.u8(..6)),
        },
    }
}

fn calling(rng: &mut Rng, functions: &[Function]) -> String {
    let plain = Scope { functions, columns: false };
    let rows = Scope { functions, columns: true };
    let name = ["a", "b", "c"][rng.usize(..3)];
    match rng.u8(..29) {
        20..23 => life(rng, functions),
        23 => resolved(rng),
        24 => saga(rng),
        25 => relayed(rng),
        26 => format!(
            "CALL idempotent_saga_run({}, {}, to_jsonb({}), wait => '5 ms')",
            or_steady(rng, "op"),
            KEYS[rng.usize(..KEYS.len())],
            rng.u8(..2)
        ),
        27 => moved(),
        28 => answered(rng),
        0..6 => {
            let (call, function) = plain.any_call(rng);
            if function.result == "idempotent_result" && rng.bool() {
                format!("SELECT ({call}).*")
            } else {
                format!("SELECT {call}")
            }
        }
        6 => format!("SELECT * FROM {} AS r", plain.any_call(rng).0),
        7 => format!(
            "SELECT t.key, {} FROM fuzz.argument AS t WHERE t.key < 'k3'",
            rows.any_call(rng).0
        ),
        8 => format!(
            "SELECT count(*) FROM fuzz.argument AS t, LATERAL {} AS r GROUP BY t.operation ORDER BY 1",
            rows.any_call(rng).0
        ),
        9 => format!(
            "WITH one AS MATERIALIZED (SELECT {} AS x), other AS (SELECT {} AS y FROM fuzz.argument AS t LIMIT 2) SELECT x, y FROM one, other",
            plain.any_call(rng).0,
            rows.any_call(rng).0
        ),
        10 => format!(
            "SELECT key FROM fuzz.argument AS t WHERE CASE WHEN random() < 0.5 THEN ({}) IS NULL ELSE EXISTS (SELECT {}) END",
            rows.any_call(rng).0,
            rows.any_call(rng).0
        ),
        11 => format!(
            "DO $d$ BEGIN FOR i IN 1 .. 3 LOOP BEGIN PERFORM {}; PERFORM {}; {SHOW_BROKEN} PERFORM {}; END; END LOOP; {SHOW_BROKEN} END $d$",
            plain.any_call(rng).0,
            plain.any_call(rng).0,
            plain.any_call(rng).0
        ),
        12 => format!(
            "DO $d$ DECLARE each_row record; BEGIN FOR each_row IN SELECT {} AS x FROM fuzz.argument AS t LOOP PERFORM {}; EXIT WHEN random() < 0.3; END LOOP; END $d$",
            rows.any_call(rng).0,
            plain.any_call(rng).0
        ),
        13 => format!(
            "DECLARE {name} {} CURSOR {} FOR SELECT {} FROM fuzz.argument AS t",
            ["NO SCROLL", "SCROLL"][rng.usize(..2)],
            ["WITH HOLD", "WITHOUT HOLD"][rng.usize(..2)],
            rows.any_call(rng).0
        ),
        14 => {
            [format!("FETCH 2 FROM {name}"), format!("CLOSE {name}"), format!("MOVE ALL IN {name}")]
                [rng.usize(..3)]
            .clone()
        }
        15 => {
            let call = plain.any_call(rng).0.replace("'k1'", "$1").replace("'op'", "$2");
            let execute = format!("EXECUTE {name}('k4', 'op'); ");
            format!(
                "DEALLOCATE ALL; PREPARE {name}(text, text) AS SELECT {call}, $1, $2; {}",
                execute.repeat(rng.usize(1..8))
            )
        }
        16 => {
            let key = rng.u8(1..6);
            format!(
                "INSERT INTO fuzz.order (operation, key, request) SELECT operation, 'k{key}', request FROM fuzz.argument LIMIT {}",
                rng.u8(1..5)
            )
        }
        17 => {
            let safe: Vec<_> =
                functions.iter().filter(|function| function.parallel_safe).cloned().collect();
            let safe = Scope { functions: &safe, columns: true };
            format!(
                "SET LOCAL debug_parallel_query = on; SELECT {} FROM fuzz.argument AS t",
                safe.any_call(rng).0
            )
        }
        18 => format!(
            "EXPLAIN (ANALYZE, VERBOSE, SUMMARY off) SELECT {} FROM fuzz.argument AS t",
            rows.any_call(rng).0
        ),
        _ => format!("COPY (SELECT {} FROM fuzz.argument AS t) TO STDOUT", rows.any_call(rng).0),
    }
}

/// A claim and what a holder does next, which at random would hardly ever meet.
fn life(rng: &mut Rng, functions: &[Function]) -> String {
    let scope = Scope { functions, columns: false };
    let holders: Vec<_> = functions.iter().filter(|function| function.takes_a_fence()).collect();
    let operation = ["'op'", "'logged'", "'lease'", "'short'", "'unsure'"][rng.usize(..5)];
    let key = format!("'life{}'", rng.u8(..100));
    let lease = ["", ", lease => interval '1 hour'", ", lease => interval '1 ms'"][rng.usize(..3)];
    let mut steps = String::new();
    for _ in 0..rng.usize(1..4) {
        let function = holders[rng.usize(..holders.len())];
        steps += &format!("PERFORM {}; ", scope.call_as_holder(rng, function, operation, &key));
    }
    format!(
        "DO $d$ DECLARE claim idempotent_result := idempotent_claim({operation}, {key}{lease}); BEGIN {steps}{SHOW_BROKEN} END $d$"
    )
}

/// An operation, or its steady twin, which random calls do not name: so its settings stay as they were made. Those of the
/// other may come to be such that no later call succeeds.
fn or_steady(rng: &mut Rng, operation: &str) -> String {
    format!("'{}{operation}'", ["", "steady "][rng.usize(..2)])
}

/// A step of a saga by hand, or what an administrator decides about it.
fn saga(rng: &mut Rng) -> String {
    let operation = or_steady(rng, "op");
    let key = format!("'saga{}'", rng.u8(..100));
    let verdict = ["completed", "failed", "compensated", "uncompensated"][rng.usize(..4)];
    match rng.u8(..6) {
        0 => format!("SELECT idempotent_saga_resume({operation}, {key}, wait => '0')"),
        1 => format!("SELECT idempotent_saga_abandon({operation}, {key})"),
        2 => format!("SELECT idempotent_saga_settle({operation}, {key}, 'b', '{verdict}')"),
        3 => format!("SELECT idempotent_saga_forget({operation}, {key}, unfinished => true)"),
        _ => format!("SELECT idempotent_saga_step({operation}, {key}, '1', wait => '0')"),
    }
}

/// Messages put and taken, and acknowledged or given back.
fn relayed(rng: &mut Rng) -> String {
    let lease = ["1 us", "10 ms", "1 hour"][rng.usize(..3)];
    let end = ["ack", "release"][rng.usize(..2)];
    format!(
        "SELECT idempotent_outbox_put('t1', to_jsonb(n), 'k' || n % 3) FROM generate_series(1, 5) AS n;
         WITH taken AS MATERIALIZED (SELECT * FROM idempotent_outbox_take('t1', 4, '{lease}'))
         SELECT idempotent_outbox_{end}('t1', array_agg(t.message_id), max(t.fence)) FROM taken AS t"
    )
}

/// Rows that are known, taken over once more.
fn moved() -> String {
    "SELECT idempotent_import(row) FROM (SELECT idempotent_export_scope('t1') AS row LIMIT 3) AS t"
        .to_owned()
}

/// A request over HTTP, and its answer.
fn answered(rng: &mut Rng) -> String {
    let operation = or_steady(rng, "op");
    let key = format!("'\"http{}\"'", rng.u16(..1000));
    format!(
        "SELECT idempotent_http_complete({operation}, claim.key, 201, fence => claim.fence) FROM idempotent_http_claim({operation}, {key}, 'POST', '/') AS claim WHERE claim.run"
    )
}

/// What is unknown once its lease has lapsed, and somebody who says what became of it.
fn resolved(rng: &mut Rng) -> String {
    let operation = or_steady(rng, "unsure");
    // Which is one in every form that the operation may want.
    let key = format!("'00000000-0000-4000-8000-{:012}'", rng.u16(..1000));
    let verdict = ["'completed', '{}'", "'failed'", "'absent'"][rng.usize(..3)];
    format!(
        "SELECT idempotent_claim({operation}, {key}, lease => '1 us'); COMMIT; SELECT idempotent_resolve({operation}, {key}, {verdict})"
    )
}
