//! Through PgBouncer in transaction mode: every transaction may find itself on another connection to the server, with
//! what somebody else has left there.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use client::cluster::Result;
use client::connect::Server;
use client::figures::note;
use client::pooler::Pooler;
use client::storm::plan::{Delivery, Moment, Purchase, deliveries, purchases};
use client::storm::queue::Queue;
use client::watch::wait_until;
use client::{Cluster, Reply, Wire};
use postgres::Client;

const CLIENTS: usize = 200;
const CONNECTIONS: usize = 10;
/// The day of the first purchase.
const SEED: u64 = 19_970_101;

const BOOKS: &str = "
    CREATE EXTENSION pg_idempotent;
    CREATE SCHEMA demo_storm;
    CREATE TABLE demo_storm.purchase (line integer PRIMARY KEY, customer integer, dollars numeric(12,2), request jsonb);
    CREATE TABLE charge (id bigint GENERATED ALWAYS AS IDENTITY, purchase integer NOT NULL, dollars numeric(12,2) NOT NULL);
    CREATE INDEX ON charge (purchase);
    CREATE TABLE account (customer integer PRIMARY KEY, balance numeric(12,2) NOT NULL);
    CREATE FUNCTION charge(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
    DECLARE number bigint;
    BEGIN
        INSERT INTO charge (purchase, dollars) VALUES ((request->>'purchase')::integer, (request->>'dollars')::numeric)
        RETURNING id INTO number;
        UPDATE account SET balance = balance + (request->>'dollars')::numeric
         WHERE customer = (request->>'customer')::integer;
        RETURN jsonb_build_object('charge', number);
    END $$";
const OPEN_BOOKS: &str = "
    UPDATE demo_storm.purchase
       SET request = jsonb_build_object('purchase', line, 'customer', customer, 'dollars', dollars);
    INSERT INTO account SELECT DISTINCT customer, 0 FROM demo_storm.purchase";
const CHARGE: &str = "SELECT outcome, response->>'charge' FROM idempotent_run('charge', $1, $2::jsonb, 'charge(jsonb)')";
/// What PgBouncer itself sets, to the values of the client whose turn it is.
const OF_POOLER: &str = "{application_name,client_encoding,DateStyle,IntervalStyle,standard_conforming_strings,TimeZone}";

/// Reads the shop's record: customer, his number in the sample, day, CDs, dollars.
fn load(client: &mut Client) -> Result<()> {
    client.batch_execute(BOOKS)?;
    let record = fs::read_to_string(
        env::var("CDNOW").map_err(|_| "CDNOW must name the file of the purchases")?,
    )?;
    let mut copy =
        client.copy_in("COPY demo_storm.purchase (line, customer, dollars) FROM STDIN")?;
    for (line, purchase) in (1..).zip(record.lines().filter(|line| !line.trim().is_empty())) {
        let fields: Vec<&str> = purchase.split_whitespace().collect();
        writeln!(copy, "{line}\t{}\t{}", fields[0], fields[4])?;
    }
    copy.finish()?;
    Ok(client.batch_execute(OPEN_BOOKS)?)
}

/// A shop's two hundred clients.
struct Storm<'a> {
    pooler: &'a Server,
    purchases: &'a [Purchase],
    queue: Queue,
    /// Looks at the books past the pooler.
    witness: Mutex<Client>,
    killed: [AtomicUsize; 3],
}

/// The purchase and the charge that a client was told.
type Told = (i32, String);

impl Storm<'_> {
    fn connect(&self) -> Wire {
        let mut wire = Wire::connect(self.pooler, "shop", "").expect("a connection to the pooler");
        let reply = wire.prepare("charge", CHARGE).expect("an answer");
        assert!(reply.refusal.is_none(), "{:?}", reply.refusal);
        wire
    }

    fn work(&self) -> Vec<Told> {
        let (mut told, mut connection) = (Vec::new(), None);
        while let Some(delivery) = self.queue.take() {
            let mut wire = connection.take().unwrap_or_else(|| self.connect());
            let purchase = &self.purchases[delivery.purchase];
            let again = Delivery { attempt: delivery.attempt + 1, doom: None, ..delivery };
            if let Some(moment) = delivery.doom {
                self.kill(wire, purchase, moment);
                self.queue.next(again);
                continue;
            }
            // Every third in a transaction of several round trips.
            let in_block = delivery.number % 3 == 0;
            if in_block {
                assert_eq!(wire.call("BEGIN").code(), "");
            }
            let (outcome, charge) = answer(&charge(&mut wire, purchase));
            if in_block {
                assert_eq!(wire.run("COMMIT").tags, ["COMMIT"]);
            }
            if outcome == "in_progress" {
                self.queue.later(again);
            } else {
                told.push((purchase.line, charge));
                self.queue.settled();
            }
            connection = Some(wire);
        }
        told
    }

    /// The client is gone, and has not read its answer.
    fn kill(&self, mut wire: Wire, purchase: &Purchase, moment: Moment) {
        let which = match moment {
            Moment::BeforeCommit => {
                wire.run("BEGIN");
                charge(&mut wire, purchase);
                0
            }
            Moment::AfterCommit => {
                wire.run("BEGIN");
                let (outcome, _) = answer(&charge(&mut wire, purchase));
                wire.send("COMMIT").expect("the pooler listens");
                if outcome == "executed" {
                    wait_until("it is in the books", || self.is_charged(purchase.line));
                }
                1
            }
            Moment::AnyMoment => {
                wire.send_prepared("charge", &values(purchase).each_ref().map(String::as_str))
                    .expect("the pooler listens");
                2
            }
        };
        self.killed[which].fetch_add(1, Ordering::Relaxed);
        wire.throw_away();
    }

    fn is_charged(&self, purchase: i32) -> bool {
        let mut witness = self.witness.lock().expect("nobody fails while looking");
        let charged = witness
            .query_one("SELECT EXISTS (SELECT FROM charge WHERE purchase = $1)", &[&purchase]);
        charged.expect("the witness' connection answers").get(0)
    }
}

fn values(purchase: &Purchase) -> [String; 2] {
    [format!("purchase-{}", purchase.line), purchase.request.clone()]
}

fn charge(wire: &mut Wire, purchase: &Purchase) -> Reply {
    wire.call_prepared("charge", &values(purchase).each_ref().map(String::as_str))
        .expect("an answer")
}

fn answer(reply: &Reply) -> (String, String) {
    let [Some(outcome), charge] = reply.row() else { panic!("{reply:?}") };
    assert!(["executed", "replay", "in_progress"].contains(&outcome.as_str()), "{outcome}");
    (outcome.clone(), charge.clone().unwrap_or_default())
}

#[test]
fn two_hundred_clients_over_ten_connections_charge_each_purchase_once() -> Result<()> {
    let cluster = Cluster::start("shared_preload_libraries = 'pg_idempotent'")?;
    let mut admin = cluster.server().client()?;
    load(&mut admin)?;
    let pooler = Pooler::start(&cluster, CONNECTIONS)?;
    let purchases = purchases(&mut admin)?;
    let storm = Storm {
        pooler: pooler.server(),
        purchases: &purchases,
        queue: Queue::new(deliveries(purchases.len(), SEED)),
        witness: Mutex::new(cluster.server().client()?),
        killed: Default::default(),
    };
    let told: Vec<Told> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| storm.work())).collect();
        clients
            .into_iter()
            .flat_map(|client| client.join().expect("a client does not fail"))
            .collect()
    });

    // The books, to the cent, and everybody was told what is in them.
    let books = admin.query_one(
        "SELECT count(*), count(DISTINCT purchase), sum(dollars)::text, (SELECT sum(balance)::text FROM account) FROM charge",
        &[],
    )?;
    let books: (i64, i64, &str, &str) = (books.get(0), books.get(1), books.get(2), books.get(3));
    assert_eq!(books, (6_919, 6_919, "244091.94", "244091.94"));
    assert_eq!(told.len(), 5 * 6_919, "every delivery has its answer");
    let charges: HashMap<i32, i64> = admin
        .query("SELECT purchase, id FROM charge", &[])?
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    for (purchase, charge) in &told {
        assert_eq!(charge, &charges[purchase].to_string(), "purchase {purchase}");
    }
    let killed: Vec<usize> =
        storm.killed.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    assert!(killed.iter().all(|count| *count >= 1_000), "too quiet: {killed:?}");

    // No key is stuck, nobody holds anything.
    wait_until("the last of the killed is gone", || {
        let held =
            admin.query_one("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", &[]);
        held.expect("the admin's connection answers").get::<_, i64>(0) == 0
    });
    let replays: i64 = admin
        .query_one(
            "SELECT count(*) FILTER (WHERE outcome = 'replay')
               FROM demo_storm.purchase, LATERAL idempotent_replay('charge', 'purchase-' || line)",
            &[],
        )?
        .get(0);
    assert_eq!(replays, 6_919);
    nothing_is_left_behind(&pooler)?;
    note(&format!(
        "pooler: {} deliveries, killed before COMMIT, after it, at any moment: {killed:?}",
        told.len()
    ));
    Ok(())
}

/// Takes all of the pooler's connections to the server at once, and looks at what is left in each.
fn nothing_is_left_behind(pooler: &Pooler) -> Result<()> {
    let mut clients = Vec::new();
    let mut pids = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = Wire::connect(pooler.server(), "looks", "")?;
        client.run("BEGIN");
        pids.push(client.run("SELECT pg_backend_pid()").value().to_owned());
        let left = client.run(&format!(
            "SELECT (SELECT string_agg(name || ' = ' || setting, ', ') FROM pg_settings
                      WHERE source = 'session' AND name <> ALL ('{OF_POOLER}')),
                    (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory')"
        ));
        assert_eq!(left.row(), [None, Some("0".to_owned())]);
        clients.push(client);
    }
    pids.sort();
    pids.dedup();
    assert_eq!(pids.len(), CONNECTIONS, "ten connections to the server: {pids:?}");
    let prepared = "SELECT count(*) > 0 FROM pg_prepared_statements WHERE name LIKE 'PGBOUNCER%' AND statement LIKE '%idempotent_run%'";
    assert!(
        clients.iter_mut().any(|client| client.run(prepared).value() == "t"),
        "statements were prepared"
    );
    Ok(())
}

/// Two clients that take turns on one connection to the server.
#[test]
fn clients_of_one_connection_leave_nothing_to_each_other() -> Result<()> {
    let cluster = Cluster::start("")?;
    cluster.server().wire().run("CREATE EXTENSION pg_idempotent");
    let pooler = Pooler::start(&cluster, 1)?;
    let mut other = cluster.server().wire();
    let (mut a, mut b) = (pooler.server().wire(), pooler.server().wire());
    let pid = "SELECT pg_backend_pid()";
    let backend = a.run(pid).value().to_owned();
    assert_eq!(b.run(pid).value(), backend, "one connection for both");

    // A gives up; B has the key, does the work, and A learns of it.
    a.run("BEGIN");
    assert_eq!(a.claim("key", "").outcome, "claimed");
    a.run("ROLLBACK");
    b.run("BEGIN");
    assert_eq!(b.claim("key", "").outcome, "claimed");
    b.complete("key", "1", "");
    b.run("COMMIT");
    assert_eq!(
        (a.claim("key", "").outcome.as_str(), b.claim("key", "").outcome.as_str()),
        ("replay", "replay")
    );

    // What A forgot is A's affair.
    a.run("BEGIN");
    assert_eq!(a.claim("forgotten", "").outcome, "claimed");
    assert_eq!(a.call("COMMIT").code(), "ID009");
    b.run("BEGIN");
    assert_eq!(b.call("SELECT idempotent_complete('op', 'forgotten', '1')").code(), "ID007");
    b.run("ROLLBACK");
    b.run("BEGIN");
    b.run("COMMIT");

    // A's patience is not B's.
    other.run("BEGIN");
    assert_eq!(other.claim("busy", "").outcome, "claimed");
    assert_eq!(a.claim("busy", ", wait => '20ms'").outcome, "in_progress");
    assert_eq!(b.run("SHOW lock_timeout").value(), "0");
    assert_eq!(
        b.run("SELECT count(*) FROM pg_settings WHERE source = 'session' AND name LIKE '%timeout'")
            .value(),
        "0"
    );
    other.run("ROLLBACK");

    // A lease is A's, on whatever connection.
    let lease = a.claim("leased", ", lease => '1 hour'");
    assert_eq!(b.claim("leased", ", wait => '0'").outcome, "in_progress");
    assert_eq!(b.call("SELECT idempotent_complete('op', 'leased', '2')").code(), "ID003");
    assert_eq!(a.complete("leased", "1", &format!(", fence => {}", lease.fence())), "1");

    // A dies with the key in hand: the connection goes with it, and B has the key.
    assert_eq!(a.run(pid).value(), backend);
    a.run("BEGIN");
    assert_eq!(a.claim("orphan", "").outcome, "claimed");
    a.throw_away();
    b.run("BEGIN");
    assert_eq!(b.claim("orphan", ", wait => '1 minute'").outcome, "claimed");
    b.complete("orphan", "1", "");
    b.run("COMMIT");
    assert_ne!(b.run(pid).value(), backend);
    assert_eq!(other.run("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").value(), "0");
    Ok(())
}
