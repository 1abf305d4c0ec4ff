//! When all is over: what was prepared is settled, and every key is brought to an answer.

use std::time::{Duration, Instant};

use client::connect::Server;
use client::watch::wait_until;

use super::patterns::write_traces;
use super::session::Session;
use super::stage::Stage;
use crate::Result;
use crate::history::{Call, Effect, Key, Line};
use crate::plan::{LONGEST_LEASE_MS, REQUESTS};

/// Between the longest lease and this a key must have its answer; the rest is for a slow machine.
const ENOUGH: Duration = Duration::from_secs(10);
/// How long a closing call waits for whoever holds the key: longer than any lease.
const WAIT_MS: u64 = LONGEST_LEASE_MS + 1_000;

/// `servers`: the nodes, reached directly.
pub fn close(
    stage: &Stage,
    servers: &[Server],
    client: u32,
    keys: &[Key],
    seed: u64,
) -> Result<()> {
    servers.iter().for_each(wait_for_the_others);
    let mut session = Session::closing(stage, client);
    for (node, server) in (0..).zip(servers) {
        session.face_node(node);
        settle(&mut session, server, seed)?;
    }
    for key in keys {
        bring_to_an_answer(&mut session, key);
    }
    match session.failure {
        Some(failure) => Err(failure),
        None => {
            for server in servers {
                write_effects(stage, server)?;
                write_traces(stage, server)?;
            }
            stage.flush()
        }
    }
}

/// Sessions whose clients are gone may still be at work.
fn wait_for_the_others(server: &Server) {
    wait_until("nobody but us is connected", || {
        let alone =
            "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
                        AND backend_type = 'client backend' AND pid <> pg_backend_pid())";
        server
            .client()
            .and_then(|mut client| client.query_one(alone, &[]))
            .is_ok_and(|row| row.get(0))
    });
}

fn settle(session: &mut Session<'_>, server: &Server, seed: u64) -> Result<()> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let prepared =
        "SELECT gid FROM pg_prepared_xacts WHERE database = current_database() ORDER BY gid";
    for row in server.client()?.query(prepared, &[])? {
        let gid = row.get(0);
        let call =
            if rng.bool() { Call::CommitPrepared { gid } } else { Call::RollbackPrepared { gid } };
        if !session.connect() {
            break;
        }
        session.call(call, None);
    }
    Ok(())
}

fn bring_to_an_answer(session: &mut Session<'_>, key: &Key) {
    let began = Instant::now();
    let (mut request, mut resolved) = (0, false);
    while began.elapsed() < ENOUGH && session.connect() {
        let effect = session.number();
        let call = Call::Run {
            key: key.id,
            request,
            wait_ms: WAIT_MS,
            effect,
            declined: false,
            strict: false,
        };
        let outcome = session.call(call, Some(key));
        match outcome.said() {
            "executed" | "replay" | "sealed" | "expired" => return,
            "mismatch" if request + 1 < REQUESTS => request += 1,
            // All of them mismatch: nothing that we know will bring an answer.
            "mismatch" => return,
            // An answer, too: it is for an operator to go on from there, and so we do.
            "unknown" if resolved => return,
            "unknown" => {
                session.resolve(key);
                resolved = true;
            }
            _ => {}
        }
    }
}

fn write_effects(stage: &Stage, server: &Server) -> Result<()> {
    let rows = server.client()?.query(
        "SELECT id, key, client, fence, epoch, (extract(epoch FROM at) * 1000000)::bigint
           FROM effect ORDER BY id",
        &[],
    )?;
    for row in rows {
        let number = |at: usize| row.get::<_, i64>(at);
        stage.record(&Line::Effect(Effect {
            effect: u64::try_from(number(0))?,
            key: u32::try_from(number(1))?,
            client: u32::try_from(number(2))?,
            fence: row.get(3),
            epoch: number(4),
            at_us: u64::try_from(number(5))?,
        }));
    }
    Ok(())
}
