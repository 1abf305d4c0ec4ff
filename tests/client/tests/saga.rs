//! Sagas over a server that is killed between any two steps, and in the middle of each, and over one that is killed at random
//! while callers meet: every step and every compensation has its effect once, in order.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use client::cluster::Result;
use client::connect::Server;
use client::figures::note;
use client::misfortune::{KINDS, befall, terminate_a_client};
use client::watch::{wait_for_lock, wait_until};
use client::wire::quote;
use client::{Cluster, Wire};

/// The handlers pass a gate before and behind their effect, 0 and 1 for the first of these, 2 and 3 for the second, and so on.
const ACTIONS: [&str; 5] = ["reserve", "pay", "ship", "refund", "unreserve"];

const SHOP: &str = r#"
    CREATE EXTENSION IF NOT EXISTS pg_idempotent;
    CREATE TABLE effect (number bigint GENERATED ALWAYS AS IDENTITY, key text, what text);
    CREATE FUNCTION act(given jsonb, what text, gate integer) RETURNS jsonb LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(gate);
        INSERT INTO effect (key, what) VALUES (given->>'key', what);
        PERFORM pg_advisory_xact_lock_shared(gate + 1);
        IF what = 'ship' AND given->>'request' = 'nowhere' THEN RAISE EXCEPTION 'no such place'; END IF;
        RETURN to_jsonb(what);
    END $$;
    CREATE FUNCTION reserve(given jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT act(given, 'reserve', 0) $$;
    CREATE FUNCTION pay(given jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT act(given, 'pay', 2) $$;
    CREATE FUNCTION ship(given jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT act(given, 'ship', 4) $$;
    CREATE FUNCTION refund(given jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT act(given, 'refund', 6) $$;
    CREATE FUNCTION unreserve(given jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT act(given, 'unreserve', 8) $$;
    SELECT idempotent_operation('order', failure_retention => '1 day');
    SELECT idempotent_saga('order', '[
        {"name": "inventory", "handler": "public.reserve(jsonb)", "compensation": "public.unreserve(jsonb)"},
        {"name": "payment", "handler": "public.pay(jsonb)", "compensation": "public.refund(jsonb)"},
        {"name": "shipping", "handler": "public.ship(jsonb)", "final": ["P0001"]}]')"#;

/// What is there once the saga is over, in order.
fn effects_of(request: &str) -> Vec<&'static str> {
    match request {
        "good" => vec!["reserve", "pay", "ship"],
        // What the step did that failed was undone with it.
        _ => vec!["reserve", "pay", "refund", "unreserve"],
    }
}

fn call(key: &str, request: &str) -> String {
    format!(
        "CALL idempotent_saga_run('order', {}, to_jsonb({}::text), wait => '1 minute')",
        quote(key),
        quote(request)
    )
}

fn effects(wire: &mut Wire, key: &str) -> Vec<String> {
    let rows = wire
        .run(&format!("SELECT what FROM effect WHERE key = {} ORDER BY number", quote(key)))
        .rows;
    rows.iter().map(|row| row[0].clone().unwrap_or_default()).collect()
}

#[test]
fn a_server_that_is_killed_at_any_point_of_a_saga_does_nothing_twice() -> Result<()> {
    let cluster = Cluster::start("")?;
    cluster.server().wire().run(SHOP);
    for (request, gates) in [("good", 0..6), ("nowhere", 0..10)] {
        for gate in gates {
            is_killed_at(&cluster, gate, request)?;
        }
    }
    Ok(())
}

fn is_killed_at(cluster: &Cluster, gate: usize, request: &str) -> Result<()> {
    let key = format!("{request} {gate}");
    let mut keeper = cluster.server().client()?;
    keeper.execute(&format!("SELECT pg_advisory_lock({gate})"), &[])?;
    let mut caller = cluster.server().wire();
    caller.send(&call(&key, request))?;
    wait_for_lock(&mut keeper, caller.pid());
    cluster.crash()?;
    cluster.resume()?;

    let mut wire = cluster.server().wire();
    let all = effects_of(request);
    // Those of the steps that had committed, and nothing of the one that had not.
    let before: Vec<_> =
        ACTIONS.iter().take(gate / 2).filter(|what| all.contains(what)).copied().collect();
    assert_eq!(effects(&mut wire, &key), before, "killed at gate {gate} of {request}");
    let failed = if request == "good" { "f" } else { "t" };
    let went_on = wire.run(&call(&key, request));
    assert_eq!(went_on.row()[..2], [Some("executed".to_owned()), Some(failed.to_owned())]);
    assert_eq!(effects(&mut wire, &key), all, "killed at gate {gate} of {request}");
    let again = wire.run(&call(&key, request));
    assert_eq!(again.row()[0].as_deref(), Some("replay"));
    assert_eq!(again.row()[1..], went_on.row()[1..]);
    assert_eq!(effects(&mut wire, &key), all);
    Ok(())
}

const CALLERS: usize = 4;
const SAGAS: usize = 100;
const MISFORTUNES: usize = 4 * KINDS;

/// Calls each saga until it has an answer, over as many connections as that takes.
fn call_all(server: &Server, answered: &AtomicUsize) {
    for number in 0..SAGAS {
        let (key, request) =
            (format!("k{number}"), if number % 2 == 0 { "good" } else { "nowhere" });
        wait_until("the saga is over", || {
            let Ok(mut wire) = Wire::connect(server, "caller", "") else { return false };
            let Ok(reply) = wire.send(&call(&key, request)).and_then(|()| wire.receive()) else {
                return false;
            };
            let outcome = reply.rows.first().and_then(|row| row[0].as_deref());
            reply.refusal.is_none() && matches!(outcome, Some("executed" | "replay"))
        });
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn callers_that_are_killed_and_meet_do_nothing_twice() -> Result<()> {
    let cluster = Cluster::start("")?;
    let server = cluster.server();
    server.wire().run(SHOP);
    let answered = AtomicUsize::new(0);
    let began = Instant::now();
    let killed = thread::scope(|scope| -> Result<u64> {
        let callers: Vec<_> =
            (0..CALLERS).map(|_| scope.spawn(|| call_all(&server, &answered))).collect();
        let (mut killed, mut befallen) = (0, 0);
        while callers.iter().any(|caller| !caller.is_finished()) {
            let answers = answered.load(Ordering::Relaxed);
            if answers > befallen * CALLERS * SAGAS / (MISFORTUNES + 1) {
                befall(&cluster, befallen)?;
                befallen += 1;
            }
            killed += terminate_a_client(&cluster)?;
            server.client()?.execute("SELECT pg_sleep(0.005)", &[])?;
        }
        assert!(killed > 10, "{killed} were killed: too quiet to prove anything");
        assert!(befallen >= MISFORTUNES, "{befallen} misfortunes: too quiet to prove anything");
        Ok(killed)
    })?;
    let mut wire = server.wire();
    for number in 0..SAGAS {
        let request = if number % 2 == 0 { "good" } else { "nowhere" };
        assert_eq!(effects(&mut wire, &format!("k{number}")), effects_of(request));
    }
    let unfinished = "SELECT count(*) FROM idempotent.sagas WHERE expires_at IS NULL";
    assert_eq!(wire.run(unfinished).value(), "0");
    note(&format!(
        "sagas: {SAGAS} by {CALLERS} callers, {killed} sessions terminated, {MISFORTUNES} misfortunes of the server, {} s",
        began.elapsed().as_secs()
    ));
    Ok(())
}
