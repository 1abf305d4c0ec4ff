//! `simulate`: plays the model and says what came of it. See docs/scale.md.

use std::process::ExitCode;
use std::time::Instant;

use simulate::figures::paper;
use simulate::plan::Plan;
use simulate::plant::Plant;
use simulate::world::World;

const USAGE: &str = "\
usage: simulate [--short] [--seed N] [--sample N] [--hours N] [--nodes N] [--plant NAME]

Plays one key in SAMPLE of a million new ones a second, for HOURS, and all that befalls it. With a plant a step is left out, and a
promise must be broken: then that is success.";

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("simulate: {error}\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Vec<String>) -> Result<bool, Box<dyn std::error::Error>> {
    let mut arguments = arguments.into_iter().peekable();
    let mut plan = if arguments.next_if(|first| first == "--short").is_some() {
        Plan::short()
    } else {
        Plan::internet()
    };
    let mut plant = None;
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{option}: a value is missing"))?;
        match option.as_str() {
            "--seed" => plan.seed = value.parse()?,
            "--sample" => plan.sample = value.parse::<u64>()?.max(1),
            "--hours" => plan.hours = value.parse::<i64>()?.max(1),
            "--nodes" => plan.nodes = value.parse::<usize>()?.max(2),
            "--plant" => {
                let known = Plant::ALL.iter().find(|(name, _)| *name == value);
                plant = Some(known.ok_or_else(|| format!("{value}: no such plant"))?.1);
            }
            _ => return Err(format!("{option}: not understood").into()),
        }
    }
    let began = Instant::now();
    let mut world = World::new(plan, plant);
    world.run();
    let plan = &world.plan;
    println!(
        "{} new keys a second on {} nodes, for {} h; one key in {} is played; seed {}\n",
        plan.rate, plan.nodes, plan.hours, plan.sample, plan.seed
    );
    print!("{}", world.figures);
    println!("\nWhat that makes of all keys:\n{}", paper(&world.figures, plan));
    for (rule, what, times) in world.ledger.violations() {
        println!("VIOLATION {rule:?}: {what} ({times} of this kind)");
    }
    println!(
        "{} effects, {} violations, {} s",
        world.ledger.effects,
        world.ledger.broken(),
        began.elapsed().as_secs()
    );
    Ok((world.ledger.broken() > 0) == plant.is_some())
}
