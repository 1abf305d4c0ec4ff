//! `storm [with] [without]`: delivers the purchases of demo_storm.purchase and writes down what happened in
//! demo_storm.delivery. Started by sql/demo/02_storm.sql, which makes the tables and judges the outcome.
//! Environment: PG* (Unix socket), STORM_RUN (sets the keys of this run apart), STORM_SEED (optional).

use std::env;
use std::process::ExitCode;

use client::connect::Server;
use client::storm::side::Side;
use client::storm::{CONNECTIONS, DELIVERIES, KILLED_ONE_IN, Result, log, plan, worker};

/// The day of the first purchase.
const SEED: u64 = 19_970_101;

fn main() -> ExitCode {
    match storm() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nstorm: {error}");
            ExitCode::FAILURE
        }
    }
}

fn storm() -> Result<()> {
    let seed = match env::var("STORM_SEED") {
        Ok(seed) => seed.parse()?,
        Err(_) => SEED,
    };
    let wanted: Vec<String> = env::args().skip(1).collect();
    let mut sides = Vec::new();
    if wanted.is_empty() || wanted.iter().any(|side| side == "with") {
        let scope = env::var("STORM_RUN").map_err(|_| "STORM_RUN must name this run")?;
        sides.push(Side::With { scope });
    }
    if wanted.is_empty() || wanted.iter().any(|side| side == "without") {
        sides.push(Side::Without);
    }

    let server = Server::from_env();
    let mut client = server.client()?;
    let purchases = plan::purchases(&mut client)?;
    if purchases.is_empty() {
        return Err("demo_storm.purchase is empty".into());
    }
    println!(
        "  {} purchases, {DELIVERIES} deliveries each, {CONNECTIONS} connections, one in {KILLED_ONE_IN} killed, \
         seed {seed}",
        purchases.len()
    );
    for side in &sides {
        let entries = worker::run(&server, side, &purchases, seed)?;
        log::write(&mut client, side, &entries)?;
    }
    Ok(())
}
