//! Clients that go on whatever happens: who loses the connection makes a new one, to whichever server is named by then,
//! and sends the same key again.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fastrand::Rng;

use super::ledger::{Key, Kind, Ledger, Told, What};
use crate::connect::Server;
use crate::wire::{Reply, Wire, quote};

const CLIENTS: usize = 8;
/// Between two tries to connect to a server that is not there.
const BREATH: Duration = Duration::from_millis(5);

pub struct Traffic {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

struct Shared {
    ledger: Arc<Ledger>,
    /// Whose turn it is.
    primary: Mutex<(usize, Server)>,
    /// Keys that are sent again.
    keys: Mutex<Vec<Key>>,
    done: AtomicBool,
}

impl Traffic {
    pub fn start(ledger: &Arc<Ledger>, turn: usize, server: Server) -> Self {
        // What was tried in earlier turns is tried again in this one.
        let keys = ledger.keys().into_iter().filter(|key| !key.kind.leased).collect();
        let shared = Arc::new(Shared {
            ledger: Arc::clone(ledger),
            primary: Mutex::new((turn, server)),
            keys: Mutex::new(keys),
            done: AtomicBool::new(false),
        });
        let clients = (0..CLIENTS)
            .map(|number| {
                let shared = Arc::clone(&shared);
                let rng = Rng::with_seed((turn * CLIENTS + number) as u64);
                thread::spawn(move || Client { shared: &shared, rng }.work())
            })
            .collect();
        Self { shared, clients }
    }

    /// Who connects from now on, connects here.
    pub fn direct(&self, turn: usize, server: Server) {
        *self.shared.primary.lock().unwrap_or_else(PoisonError::into_inner) = (turn, server);
    }

    /// Each client ends after the call it is at.
    pub fn stop(mut self) {
        self.end();
        for client in self.clients.drain(..) {
            client.join().expect("a client does not fail");
        }
    }

    fn end(&self) {
        self.shared.done.store(true, Ordering::Relaxed);
    }
}

impl Drop for Traffic {
    /// After a failed test nobody waits for the clients.
    fn drop(&mut self) {
        self.end();
    }
}

struct Client<'a> {
    shared: &'a Shared,
    rng: Rng,
}

impl Client<'_> {
    fn work(&mut self) {
        while !self.done() {
            let (turn, server) =
                self.shared.primary.lock().unwrap_or_else(PoisonError::into_inner).clone();
            match Wire::connect(&server, &turn.to_string(), "") {
                Ok(mut wire) => while !self.done() && self.call(turn, &mut wire) {},
                Err(_) => thread::sleep(BREATH),
            }
        }
    }

    fn done(&self) -> bool {
        self.shared.done.load(Ordering::Relaxed)
    }

    /// One call and what came of it; false when the connection is gone.
    fn call(&mut self, turn: usize, wire: &mut Wire) -> bool {
        let key = self.draw();
        let said = match self.rng.u8(..2) {
            _ if key.kind.leased => lease(wire, &key),
            0 => run(wire, &key),
            _ => claim_and_complete(wire, &key),
        };
        let what = said.unwrap_or(What::Lost);
        let (mut again, fence) =
            (what != What::Lost, if let What::Leased(fence) = what { Some(fence) } else { None });
        self.shared.ledger.write(Told { turn, key: key.clone(), what });
        // Half of the leases are left to whoever comes after the failover.
        if let Some(fence) = fence.filter(|_| self.rng.bool()) {
            let what = finish(wire, &key, fence).unwrap_or(What::Lost);
            again = what != What::Lost;
            self.shared.ledger.write(Told { turn, key, what });
        }
        again
    }

    /// A new key, or one that was sent before: then by anybody, and perhaps in another turn.
    fn draw(&mut self) -> Key {
        let mut keys = self.shared.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if !keys.is_empty() && self.rng.u8(..10) < 4 {
            return keys[self.rng.usize(..keys.len())].clone();
        }
        let kind =
            Kind { logged: self.rng.bool(), dated: self.rng.bool(), leased: self.rng.u8(..6) == 0 };
        let number = self.rng.u128(..);
        let key = if kind.dated { uuid_v7(number) } else { format!("{number:032x}") };
        let key = Key { kind, key };
        if !kind.leased {
            keys.push(key.clone());
        }
        key
    }
}

fn run(wire: &mut Wire, key: &Key) -> io::Result<What> {
    let reply = ask(
        wire,
        &format!(
            "SELECT outcome, response->>'token' FROM idempotent_run({}, {}, 'work(jsonb)')",
            identity(key),
            request(key)
        ),
    )?;
    Ok(refused(&reply).unwrap_or_else(|| answer(&reply, "executed", What::Executed)))
}

fn claim_and_complete(wire: &mut Wire, key: &Key) -> io::Result<What> {
    let (identity, request) = (identity(key), request(key));
    let reply = ask(
        wire,
        &format!(
            "BEGIN; SELECT outcome, response->>'token' FROM idempotent_claim({identity}, {request})"
        ),
    )?;
    let claimed = refused(&reply).unwrap_or_else(|| answer(&reply, "claimed", What::Executed));
    if !matches!(claimed, What::Executed(_)) {
        ask(wire, "ROLLBACK")?;
        return Ok(claimed);
    }
    let (operation, name) = (key.kind.operation(), quote(&key.key));
    let reply = ask(
        wire,
        &format!(
            "WITH written AS (INSERT INTO effect (operation, key) VALUES ('{operation}', {name}) RETURNING token)
             SELECT idempotent_complete({identity}, jsonb_build_object('token', token))->>'token' FROM written;
             COMMIT"
        ),
    )?;
    if let Some(refused) = refused(&reply) {
        ask(wire, "ROLLBACK")?;
        return Ok(refused);
    }
    Ok(What::Executed(reply.value().to_owned()))
}

fn lease(wire: &mut Wire, key: &Key) -> io::Result<What> {
    let reply = ask(
        wire,
        &format!(
            "SELECT outcome, fence FROM idempotent_claim({}, {}, lease => '1 hour', wait => '0')",
            identity(key),
            request(key)
        ),
    )?;
    Ok(refused(&reply).unwrap_or_else(|| {
        answer(&reply, "claimed", |fence| What::Leased(fence.parse().expect("a lease has a fence")))
    }))
}

/// Does the work of a lease.
pub fn finish(wire: &mut Wire, key: &Key, fence: i64) -> io::Result<What> {
    let (identity, operation, name) = (identity(key), key.kind.operation(), quote(&key.key));
    let reply = ask(
        wire,
        &format!(
            "WITH written AS (INSERT INTO effect (operation, key) VALUES ('{operation}', {name}) RETURNING token)
             SELECT idempotent_complete({identity}, jsonb_build_object('token', token), fence => {fence})->>'token'
             FROM written"
        ),
    )?;
    Ok(refused(&reply).unwrap_or_else(|| What::Executed(reply.value().to_owned())))
}

/// The answer, whole: one that the server broke off is none.
fn ask(wire: &mut Wire, sql: &str) -> io::Result<Reply> {
    wire.send(sql)?;
    let reply = wire.receive()?;
    if reply.transaction == 'X' { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(reply) }
}

fn refused(reply: &Reply) -> Option<What> {
    reply.refusal.as_ref().map(|refusal| What::Refused(refusal.code.clone()))
}

/// Outcome and value; `this` outcome is of this `kind`.
fn answer(reply: &Reply, this: &str, kind: impl Fn(String) -> What) -> What {
    let [Some(outcome), value] = reply.row() else {
        return What::Other(format!("{:?}", reply.rows));
    };
    let value = value.clone().unwrap_or_default();
    match outcome.as_str() {
        outcome if outcome == this => kind(value),
        "replay" => What::Replayed(value),
        other => What::Other(other.to_owned()),
    }
}

fn identity(key: &Key) -> String {
    format!("'{}', {}", key.kind.operation(), quote(&key.key))
}

fn request(key: &Key) -> String {
    quote(&format!(r#"{{"operation": "{}", "key": "{}"}}"#, key.kind.operation(), key.key))
}

/// Dated now, as an application makes them.
fn uuid_v7(random: u128) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock past 1970");
    let bits = since.as_millis() << 80
        | 0x7 << 76
        | 0b10 << 62
        | random & !(0xF << 76 | 0b11 << 62) & ((1 << 80) - 1);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
