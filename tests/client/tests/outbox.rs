//! The outbox under relays that die at any point and a server that crashes: every message that was committed arrives, its
//! effect is there once, and those of one key in the order of their commits.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use client::cluster::Result;
use client::connect::Server;
use client::figures::note;
use client::misfortune::{KINDS, befall};
use client::watch::wait_until;
use client::{Cluster, Wire};
use fastrand::Rng;
use postgres::Client;

const SENDERS: u64 = 3;
const RELAYS: u64 = 3;
const KEYS: usize = 5;
const TRANSACTIONS: usize = 300;
const MISFORTUNES: usize = 6 * KINDS;
const SEED: u64 = 20_261_123;

/// The order is noted after the put, so under the lock that it takes: it is that of the commits.
const SHOP: &str = "
    CREATE EXTENSION pg_idempotent;
    CREATE TABLE sent (key text, number bigint, what uuid, PRIMARY KEY (key, number));
    CREATE FUNCTION sell(customer text, id uuid) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM idempotent_outbox_put('orders', jsonb_build_object('key', customer, 'what', id), customer);
        INSERT INTO sent SELECT customer, coalesce(max(s.number), 0) + 1, id FROM sent AS s WHERE s.key = customer;
    END $$";
const MAIL: &str = "
    CREATE EXTENSION pg_idempotent;
    CREATE TABLE received (arrival bigint GENERATED ALWAYS AS IDENTITY, key text, what uuid);
    CREATE FUNCTION receive(message_id text, message jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
    DECLARE is_new CONSTANT boolean := idempotent_first('mail', message_id);
    BEGIN
        IF is_new THEN INSERT INTO received (key, what) VALUES (message->>'key', (message->>'what')::uuid); END IF;
        RETURN is_new;
    END $$";
const TAKE: &str = "SELECT message_id::text, fence, payload::text FROM idempotent_outbox_take('orders', 8, '300 ms')";
const RECEIVE: &str = "SELECT receive($1, $2::text::jsonb)";
const ACK: &str = "SELECT idempotent_outbox_ack('orders', $1::text[]::uuid[], $2)";

/// One transaction, which may be rolled back; its connection may end at any moment.
fn send(shop: &mut Client, rng: &mut Rng) -> std::result::Result<(), postgres::Error> {
    let mut transaction = shop.transaction()?;
    for _ in 0..rng.usize(1..3) {
        let key = format!("customer {}", rng.usize(..KEYS));
        transaction.execute("SELECT sell($1, gen_random_uuid())", &[&key])?;
    }
    if rng.u8(..5) == 0 { transaction.rollback() } else { transaction.commit() }
}

fn sender(shop: &Server, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let mut client = None;
    for _ in 0..TRANSACTIONS {
        wait_until("the sender is connected", || {
            client = client.take().or_else(|| shop.client().ok());
            client.is_some()
        });
        // Whether a lost COMMIT has happened is what the table of what was sent tells.
        client = client.take().and_then(|mut shop| send(&mut shop, &mut rng).ok().map(|()| shop));
    }
}

/// Takes a batch and delivers it, or dies somewhere on the way: whether it is still alive.
fn relay_once(
    shop: &mut Client,
    mail: &mut Client,
    rng: &mut Rng,
    again: &AtomicUsize,
) -> std::result::Result<bool, postgres::Error> {
    let taken = shop.query(TAKE, &[])?;
    let mut delivered: Vec<String> = Vec::new();
    for message in &taken {
        if rng.u8(..40) == 0 {
            return Ok(false);
        }
        let (id, payload): (String, String) = (message.get(0), message.get(2));
        if !mail.query_one(RECEIVE, &[&id, &payload])?.get::<_, bool>(0) {
            again.fetch_add(1, Ordering::Relaxed);
        }
        delivered.push(id);
    }
    if let Some(message) = taken.first() {
        if rng.u8(..6) == 0 {
            return Ok(false);
        }
        // Late: somebody else has some of them by now.
        match shop.execute(ACK, &[&delivered, &message.get::<_, i64>(1)]) {
            Err(error) if error.code().is_some_and(|code| code.code() == "ID003") => {}
            acknowledged => _ = acknowledged?,
        }
    }
    Ok(true)
}

fn relay(shop: &Server, mail: &Server, seed: u64, over: &AtomicBool, again: &AtomicUsize) {
    let mut rng = Rng::with_seed(seed);
    while !over.load(Ordering::Relaxed) {
        if let (Ok(mut shop), Ok(mut mail)) = (shop.client(), mail.client()) {
            while !over.load(Ordering::Relaxed)
                && relay_once(&mut shop, &mut mail, &mut rng, again).unwrap_or(false)
            {}
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn count(server: &Server, what: &str) -> Option<i64> {
    server
        .client()
        .ok()?
        .query_one(&format!("SELECT count(*) FROM {what}"), &[])
        .ok()
        .map(|row| row.get(0))
}

/// Misfortunes, each after a few more messages have arrived.
fn befall_all(cluster: &Cluster, mail: &Server, senders_left: impl Fn() -> bool) -> Result<()> {
    for number in 0..MISFORTUNES {
        let mut before = None;
        wait_until("some more messages arrive", || {
            let now = count(mail, "received");
            before = before.or(now);
            !senders_left() || now.zip(before).is_some_and(|(now, before)| now > before + 10)
        });
        befall(cluster, number)?;
    }
    Ok(())
}

#[test]
fn every_message_arrives_once_and_in_order_whoever_dies() -> Result<()> {
    let cluster = Cluster::start("")?;
    let (shop, mail) = (cluster.database("shop")?, cluster.database("mail")?);
    shop.wire().run(SHOP);
    mail.wire().run(MAIL);
    let (over, again) = (AtomicBool::new(false), AtomicUsize::new(0));
    let began = Instant::now();
    thread::scope(|scope| -> Result<()> {
        let senders: Vec<_> = (0..SENDERS)
            .map(|n| {
                let shop = &shop;
                scope.spawn(move || sender(shop, SEED + n))
            })
            .collect();
        for n in 0..RELAYS {
            let (shop, mail, over, again) = (&shop, &mail, &over, &again);
            scope.spawn(move || relay(shop, mail, SEED + 100 + n, over, again));
        }
        let befallen =
            befall_all(&cluster, &mail, || senders.iter().any(|sender| !sender.is_finished()));
        wait_until("everything is sent", || {
            senders.iter().all(thread::ScopedJoinHandle::is_finished)
        });
        wait_until("everything is delivered", || {
            count(&shop, "idempotent.outbox_message") == Some(0)
        });
        over.store(true, Ordering::Relaxed);
        befallen
    })?;
    let sent = in_order(&mut shop.wire(), "sent", "number");
    assert!(sent.len() > 100, "{} messages", sent.len());
    assert!(
        again.load(Ordering::Relaxed) > 0,
        "nothing was delivered a second time: too quiet to prove anything"
    );
    assert_eq!(in_order(&mut mail.wire(), "received", "arrival"), sent);
    note(&format!(
        "outbox: {} messages, {} deliveries of what had been delivered, {MISFORTUNES} misfortunes of the server, {} s",
        sent.len(),
        again.load(Ordering::Relaxed),
        began.elapsed().as_secs()
    ));
    Ok(())
}

fn in_order(wire: &mut Wire, table: &str, order: &str) -> Vec<String> {
    let rows = wire.run(&format!("SELECT key || ' ' || what FROM {table} ORDER BY key, {order}"));
    rows.rows.iter().map(|row| row[0].clone().unwrap_or_default()).collect()
}
