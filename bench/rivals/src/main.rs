//! Clients for `make bench`. Environment: PG* (a unix socket), PGOPTIONS, and the sockets of two Redis servers, REDIS_SOCKET and
//! REDIS_LOGGING_SOCKET.
//!
//! * `rivals rate OPERATION FINISHED SCENARIO CLIENTS SECONDS` prints how many calls a second so many clients make, in one sample.
//! * `rivals turns OPERATION FINISHED ROUNDS CALLS SCENARIO...` prints what a call takes, scenario by scenario, round after round.
//! * `rivals fill OPERATION FINISHED` finishes the keys 1 to FINISHED in Redis; bench/redis.py does it on our side.
//! * `rivals delay MICROSECONDS LISTEN TARGET...` is a proxy from each unix socket to the one after it.

mod block;
mod caller;
mod delay;
mod effects;
mod jsonb;
mod requests;
mod rival;
mod sample;
mod scenario;
mod session;
mod single;
mod turns;

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use caller::Result;
use scenario::Scenario;

const USAGE: &str = "usage: rivals rate OPERATION FINISHED SCENARIO CLIENTS SECONDS, rivals turns OPERATION FINISHED ROUNDS CALLS SCENARIO..., \
                     rivals fill OPERATION FINISHED, or: rivals delay MICROSECONDS LISTEN TARGET...";

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
        ["rate", operation, finished, scenario, clients, seconds] => {
            let plan = sample::Plan {
                scenario: Scenario::named(scenario)?,
                operation: operation.to_owned(),
                finished: finished.parse()?,
                clients: clients.parse()?,
                time: Duration::try_from_secs_f64(seconds.parse()?)?,
            };
            println!("{:.1}", sample::rate(&plan)?);
            Ok(())
        }
        ["turns", operation, finished, rounds, calls, ref scenarios @ ..] => {
            turns::take(&turns::Plan {
                operation,
                finished: finished.parse()?,
                rounds: rounds.parse()?,
                calls: calls.parse()?,
                scenarios,
            })
        }
        ["fill", operation, finished] => rival::fill(operation, finished.parse()?),
        ["delay", microseconds, ref sockets @ ..] if sockets.len().is_multiple_of(2) => {
            let ways: Vec<_> =
                sockets.chunks_exact(2).map(|way| (way[0].into(), way[1].into())).collect();
            delay::serve(Duration::from_micros(microseconds.parse()?), &ways)
        }
        _ => Err(USAGE.into()),
    }
}
