//! Purchases that are delivered again and again, on connections that break: to the cent.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use pg_idempotent_client::{Lease, Once};
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    door::Door,
    server::{At, Driver, Fresh, Result, both, fresh},
};

static DATABASE: Fresh = Fresh::named("rust_storm");
const PURCHASES: usize = 500;
const DELIVERIES: usize = 5;
const AT_ONCE: usize = 16;
const LONG: Duration = Duration::from_secs(60);

both!(a_storm_is_right_to_the_cent, a_storm_of_leases_charges_once);

#[derive(Clone)]
struct Purchase {
    key: String,
    cents: i64,
}

fn purchases(prefix: &str, count: usize) -> Vec<Purchase> {
    (0..count)
        .map(|number| Purchase {
            key: format!("{prefix}-{number}"),
            cents: fastrand::i64(1..100_000),
        })
        .collect()
}

/// Every purchase five times, in an order that nobody knows, by sixteen at once. Every purchase gets one answer.
async fn deliver<F, Fut>(purchases: &[Purchase], one: F) -> Result
where
    F: Fn(Purchase) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<String>> + Send,
{
    let mut queue: Vec<Purchase> =
        (0..DELIVERIES).flat_map(|_| purchases.iter().cloned()).collect();
    fastrand::shuffle(&mut queue);
    let (queue, one) = (Arc::new(Mutex::new(queue)), Arc::new(one));
    let answers: Arc<Mutex<HashMap<String, HashSet<String>>>> = Arc::default();
    let mut workers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (queue, one, answers) = (Arc::clone(&queue), Arc::clone(&one), Arc::clone(&answers));
        workers.spawn(async move {
            loop {
                let next = queue.lock().expect("whole").pop();
                let Some(purchase) = next else { return Result::Ok(()) };
                let key = purchase.key.clone();
                let answer = one(purchase).await?;
                answers.lock().expect("whole").entry(key).or_default().insert(answer);
            }
        });
    }
    for ended in workers.join_all().await {
        ended?;
    }
    let answers = answers.lock().expect("whole");
    assert_eq!(answers.len(), purchases.len());
    assert!(answers.values().all(|given| given.len() == 1));
    Ok(())
}

async fn a_storm_is_right_to_the_cent<D: Driver>() -> Result {
    let admin = DATABASE.admin().await;
    let door = Door::open().await;
    let pool = D::open(DATABASE.name, At { door: Some(door.port), connections: AT_ONCE });
    let prefix = fresh();
    let purchases = purchases(&prefix, PURCHASES);
    let killed = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&killed);
    let backends = DATABASE.admin().await;
    let one = move |Purchase { key, cents }| {
        let (pool, door, backends, killed) =
            (pool.clone(), door.clone(), backends.clone(), Arc::clone(&counted));
        async move {
            // Every purchase is worked on in a fifth of its deliveries, so that of a tenth of all the handler is struck.
            let is_struck = fastrand::f64() < 0.3;
            let once = Once::new("buy", &key)
                .scope(None)
                .request(&json!({"cents": cents}))
                .tries(50)
                .wait(LONG)
                .deadline(LONG);
            let work = async |tx: pg_idempotent_client::Tx<D::Transaction>| {
                let id = D::effect(tx.clone(), key.clone(), cents).await?;
                if is_struck {
                    match killed.fetch_add(1, SeqCst) % 3 {
                        0 => door.break_before_commit(),
                        1 => door.break_after_commit(),
                        _ => {
                            let name = format!("struck-{}", fastrand::u64(..));
                            D::run(tx.clone(), format!("SET application_name = '{name}'")).await?;
                            let end = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = $1";
                            backends.get().await?.query(end, &[&name]).await?;
                        }
                    }
                }
                Ok(id)
            };
            Ok(once.run(&pool, work).await?.answer.to_string())
        }
    };
    deliver(&purchases, one).await?;
    let total = "SELECT count(*), sum(cents)::bigint FROM effect WHERE starts_with(key, $1)";
    let row = admin.get().await?.query_one(total, &[&prefix]).await?;
    let bought =
        (i64::try_from(PURCHASES)?, purchases.iter().map(|purchase| purchase.cents).sum::<i64>());
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), bought);
    let killed = killed.load(SeqCst);
    println!("{}: {killed} runs were killed, and {} cents are right", D::NAME, bought.1);
    assert!(killed >= u32::try_from(PURCHASES / 10)?);
    Ok(())
}

async fn a_storm_of_leases_charges_once<D: Driver>() -> Result {
    DATABASE.admin().await;
    let door = Door::open().await;
    let pool = D::open(DATABASE.name, At { door: Some(door.port), connections: AT_ONCE });
    let purchases = purchases(&fresh(), 100);
    // The other side, which knows a charge by its key.
    let network: Arc<Mutex<HashMap<String, i64>>> = Arc::default();
    let charged = Arc::clone(&network);
    let one = move |Purchase { key, cents }| {
        let (pool, door, charged) = (pool.clone(), door.clone(), Arc::clone(&charged));
        async move {
            let lease = Lease::new("card", &key)
                .scope(None)
                .request(&json!({"cents": cents}))
                .tries(50)
                .wait(LONG)
                .deadline(LONG);
            let work = async |held: pg_idempotent_client::Held| {
                let charge = held.derive("network").await?;
                charged.lock().expect("whole").insert(charge.clone(), cents);
                match fastrand::u8(0..10) {
                    0 => door.break_before_commit(),
                    1 => door.break_after_commit(),
                    _ => {}
                }
                Ok(charge)
            };
            Ok(lease.run(&pool, work).await?.answer)
        }
    };
    deliver(&purchases, one).await?;
    let network = network.lock().expect("whole");
    assert_eq!(network.len(), purchases.len());
    assert_eq!(
        network.values().sum::<i64>(),
        purchases.iter().map(|purchase| purchase.cents).sum::<i64>()
    );
    Ok(())
}
