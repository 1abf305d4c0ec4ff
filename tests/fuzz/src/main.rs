//! `fuzz`: puts random input before a real server. See docs/reliability.md, "Random input".

mod hex;
mod requests;
mod stage;
mod statements;
mod texts;

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use client::cluster::Result;
use domain::budget::Budget;

const USAGE: &str = "\
usage: fuzz requests|texts|statements [--seconds N] [--seed N]

Puts random input before a Postgres of its own (PGBIN: the directory of its programs, with pg_idempotent installed):
requests against jsonb's own equality, names in three encodings, statements over the extension's functions. KEEP_LOGS
keeps the server's log, for others to look through.";

/// Enough to walk the deepest documents that `requests` makes, one frame a level.
const STACK: usize = 512 * 1024 * 1024;

fn main() -> ExitCode {
    let fuzzing = std::thread::Builder::new().stack_size(STACK).spawn(fuzz);
    fuzzing.ok().and_then(|thread| thread.join().ok()).unwrap_or(ExitCode::FAILURE)
}

fn fuzz() -> ExitCode {
    match run(&env::args().skip(1).collect::<Vec<_>>()) {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<String> {
    let (what, options) = arguments.split_first().ok_or(USAGE)?;
    let mut budget = Budget::from_env(10.0);
    for option in options.chunks(2) {
        match option {
            [name, value] if name == "--seconds" => {
                budget.time = Duration::from_secs(value.parse()?)
            }
            [name, value] if name == "--seed" => budget.seed = value.parse()?,
            _ => return Err(format!("{option:?}: not understood\n{USAGE}").into()),
        }
    }
    let stage = stage::Stage::new()?;
    let said = match what.as_str() {
        "requests" => requests::run(&stage, budget),
        "texts" => texts::run(&stage, budget),
        "statements" => statements::run(&stage, budget),
        _ => Err(format!("{what}: not understood\n{USAGE}").into()),
    };
    match said {
        Ok(said) => Ok(format!("seed {}: {said}", budget.seed)),
        Err(error) => Err(format!("seed {}: {error}", budget.seed).into()),
    }
}
