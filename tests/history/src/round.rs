//! One round: a database of its own, clients and faults for a while, every key brought to an answer, and the history.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use client::connect::Server;
use client::{Cluster, Scratch};

use crate::Result;
use crate::fault::injector::{Injector, Victim};
use crate::fault::proxy::Proxy;
use crate::history::{History, Line, Operation, Setup};
use crate::nodes::mover::Mover;
use crate::nodes::{PARTS, first_node_of, slots_of};
use crate::options::Options;
use crate::plan::{Mix, Plan, policies};
use crate::play::slots::Slots;
use crate::play::stage::Stage;
use crate::play::{self, close, patterns, sagas, sql, topics};

/// Looks at the clock this often.
const TICK: Duration = Duration::from_millis(20);

/// Runs a round, on a node or several, and writes its history.
///
/// # Errors
/// Of the machinery. What the extension does wrong is in the history.
pub fn run(
    clusters: &[Cluster],
    options: &Options,
    seed: u64,
    mix: Mix,
    length: Duration,
    file: &Path,
) -> Result<History> {
    let operations = policies::operations();
    let nodes: Vec<_> =
        clusters.iter().map(|cluster| Scratch::bare_on(cluster.server(), "")).collect();
    for (node, scratch) in (0..).zip(&nodes) {
        prepare(scratch, &operations)?;
        if nodes.len() > 1 {
            let of_node = (0..PARTS).filter(|part| first_node_of(*part, options.nodes) == node);
            scratch
                .admin()
                .batch_execute(&format!("SELECT idempotent_own('{}')", slots_of(of_node)))?;
        }
    }

    let (proxies, ways) = open(clusters, &nodes)?;
    let stage = Stage::new(ways, operations.clone(), file, options.operations)?;
    let several = if nodes.len() > 1 { options.nodes } else { 0 };
    let began_us = stage.began_us();
    let clients = options.clients;
    let setup = Setup { seed, began_us, mix, clients, nodes: several, operations };
    stage.record(&Line::Setup(setup));
    let slots = Slots::new(&stage, options.keys);
    let servers: Vec<Server> = nodes.iter().map(|scratch| scratch.server().clone()).collect();
    let victims = (clusters.iter().zip(&proxies).zip(&servers))
        .map(|((cluster, proxy), server)| Victim { cluster, proxy, server, eyes: None })
        .collect();
    let injector = Injector { victims, stage: &stage };
    let mover = Mover { stage: &stage, nodes: servers.clone(), plant: options.plant };
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
        let mover = (servers.len() > 1).then(|| scope.spawn(|| mover.run(seed)));
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
        injector
            .map_or(Ok(()), |injector| injector.join().map_err(|_| "the injector panicked")?)?;
        mover.map_or(Ok(()), |mover| mover.join().map_err(|_| "the mover panicked")?)
    })?;
    drop(proxies);
    stage.flush()?;

    // The way of those who close is straight, and nobody cuts it.
    let keys = History::read(file)?.keys;
    let (_proxies, _) = open(clusters, &nodes)?;
    close::close(&stage, &servers, options.clients, &keys, seed)?;
    History::read(file)
}

/// What a node's database holds. A connection of ours must not stand in the way of crashes, and so it is closed.
fn prepare(scratch: &Scratch, operations: &[Operation]) -> Result<()> {
    let mut admin = scratch.admin();
    admin.batch_execute("CREATE EXTENSION pg_idempotent")?;
    admin.batch_execute(sql::SETUP)?;
    admin.batch_execute(patterns::SETUP)?;
    admin.batch_execute(sagas::SETUP)?;
    admin.batch_execute(topics::SETUP)?;
    for operation in operations {
        admin.batch_execute(&sql::policy(operation))?;
    }
    Ok(())
}

/// A proxy before each node.
fn open(clusters: &[Cluster], nodes: &[Scratch]) -> Result<(Vec<Proxy>, Vec<Server>)> {
    let opened: Result<Vec<_>> = (clusters.iter().zip(nodes))
        .map(|(cluster, node)| Proxy::open(cluster.base(), node.server()))
        .collect();
    Ok(opened?.into_iter().unzip())
}
