//! One round: a database of its own, clients and faults for a while, every key brought to an answer, and the history.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use client::{Cluster, Scratch};

use crate::Result;
use crate::fault::injector::Injector;
use crate::fault::proxy::Proxy;
use crate::history::{History, Line, Setup};
use crate::options::Options;
use crate::plan::{Mix, Plan, policies};
use crate::play::slots::Slots;
use crate::play::stage::Stage;
use crate::play::{self, close, patterns, sql};

/// Looks at the clock this often.
const TICK: Duration = Duration::from_millis(20);

/// Runs a round and writes its history.
///
/// # Errors
/// Of the machinery. What the extension does wrong is in the history.
pub fn run(
    cluster: &Cluster,
    options: &Options,
    seed: u64,
    mix: Mix,
    length: Duration,
    file: &Path,
) -> Result<History> {
    let scratch = Scratch::bare_on(cluster.server(), "");
    let operations = policies::operations();
    let mut admin = scratch.admin();
    admin.batch_execute("CREATE EXTENSION pg_idempotent")?;
    admin.batch_execute(sql::SETUP)?;
    admin.batch_execute(patterns::SETUP)?;
    for operation in &operations {
        admin.batch_execute(&sql::policy(operation))?;
    }
    // A connection of ours must not stand in the way of crashes.
    drop(admin);

    let (proxy, way) = Proxy::open(cluster.base(), scratch.server())?;
    let stage = Stage::new(way, operations.clone(), file, options.operations)?;
    let setup = Setup { seed, mix, clients: options.clients, operations };
    stage.record(&Line::Setup(setup));
    let slots = Slots::new(&stage, options.keys);
    let injector = Injector { cluster, proxy: &proxy, server: scratch.server(), stage: &stage };
    thread::scope(|scope| -> Result<()> {
        let clients: Vec<_> = (0..options.clients)
            .map(|client| {
                let (stage, slots) = (&stage, &slots);
                scope.spawn(move || {
                    play::play(stage, slots, client, Plan::new(seed, client, options.keys, mix))
                })
            })
            .collect();
        let injector = options.faults.then(|| scope.spawn(|| injector.run(seed)));
        let began = Instant::now();
        while began.elapsed() < length
            && !stage.is_over()
            && clients.iter().any(|client| !client.is_finished())
        {
            thread::sleep(TICK);
        }
        stage.end();
        for client in clients {
            client.join().map_err(|_| "a client panicked")??;
        }
        injector.map_or(Ok(()), |injector| injector.join().map_err(|_| "the injector panicked")?)
    })?;
    drop(proxy);
    stage.flush()?;

    // The way of those who close is straight, and nobody cuts it.
    let keys = History::read(file)?.keys;
    let (_proxy, _) = Proxy::open(cluster.base(), scratch.server())?;
    close::close(&stage, scratch.server(), options.clients, &keys, seed)?;
    History::read(file)
}
