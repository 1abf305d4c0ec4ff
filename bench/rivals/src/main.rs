//! `rivals OPERATION FINISHED SCENARIO CLIENTS SECONDS` prints how many calls a second so many clients make, in one sample;
//! its keys 1 to FINISHED are finished. `rivals OPERATION FINISHED fill` finishes them in Redis. bench/redis.py does it on
//! our side, and lets the scenarios take turns. Environment: PG* (Unix socket), PGOPTIONS, REDIS_SOCKET.

mod caller;
mod jsonb;
mod ours;
mod rival;
mod sample;
mod scenario;

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use caller::Result;
use sample::{Plan, rate};
use scenario::Scenario;

const USAGE: &str =
    "usage: rivals OPERATION FINISHED SCENARIO CLIENTS SECONDS, or: rivals OPERATION FINISHED fill";

fn main() -> ExitCode {
    match rivals() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rivals: {error}");
            ExitCode::FAILURE
        }
    }
}

fn rivals() -> Result<()> {
    let given: Vec<String> = env::args().skip(1).collect();
    match given.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [operation, finished, "fill"] => rival::fill(operation, finished.parse()?)?,
        [operation, finished, scenario, clients, seconds] => {
            let plan = Plan {
                scenario: Scenario::named(scenario)?,
                operation: operation.to_owned(),
                finished: finished.parse()?,
                clients: clients.parse()?,
                time: Duration::try_from_secs_f64(seconds.parse()?)?,
            };
            println!("{:.1}", rate(&plan)?);
        }
        _ => return Err(USAGE.into()),
    }
    Ok(())
}
