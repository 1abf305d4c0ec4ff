//! `history`: runs clients and faults and checks what they were told. See `history --help` and docs/reliability.md.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use client::Cluster;
use history::figures::Figures;
use history::history::{History, Line, Setup, write};
use history::options::{Options, USAGE};
use history::plan::Mix;
use history::{Result, check, round};

/// A lazy WAL writer makes what a crash loses as much as possible, and a quick deadlock detector speaks before the waits
/// are over.
const SETTINGS: &str = "
wal_writer_delay = 10s
deadlock_timeout = 100ms
max_connections = 100
max_prepared_transactions = 60
log_line_prefix = '%m [%p] %q%a '
log_min_messages = warning
log_min_error_statement = panic
shared_preload_libraries = 'pg_idempotent'
idempotent.sweep_interval = 1s
idempotent.clock_skew = 500ms
";

/// Long enough for much to happen, short enough for a history to be held in memory.
const ROUND: Duration = Duration::from_secs(60);
/// What is rare may not come in the time that was asked for, on a slow machine above all: then there are more rounds,
/// until it has come or so much more time has passed.
const PATIENCE: Duration = Duration::from_secs(300);
/// Of the violations of a kind.
const SHOWN: usize = 3;

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match Options::parse(std::env::args().skip(1)).and_then(|options| run(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("history: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all promises were kept.
fn run(options: &Options) -> Result<bool> {
    let mut figures = Figures::default();
    if let Some(file) = &options.check {
        judge(&History::read(file)?, options, &mut figures)?;
        println!("{figures}");
        return Ok(figures.violations == 0);
    }
    println!(
        "  seed {}, {} nodes, {} clients, {} keys at a time, {} s, {} faults",
        options.seed,
        options.nodes,
        options.clients,
        options.keys,
        options.seconds,
        if options.faults { "all" } else { "no" }
    );
    let clusters: Vec<Cluster> =
        (0..options.nodes).map(|_| Cluster::start(SETTINGS)).collect::<Result<_>>()?;
    let (began, length) = (Instant::now(), Duration::from_secs(options.seconds));
    let mut seed = options.seed;
    while figures.rounds == 0
        || began.elapsed() < length
        || (figures.violations == 0
            && began.elapsed() < length + PATIENCE
            && !missing(options, &figures).is_empty())
    {
        let file = options.directory.join(format!("history-{seed}.jsonl"));
        let every_fourth = if figures.rounds % 4 == 3 { Mix::Leases } else { Mix::Everything };
        let mix = options.mix.unwrap_or(every_fourth);
        let left = length.checked_sub(began.elapsed()).unwrap_or(length);
        let round = round::run(&clusters, options, seed, mix, left.min(ROUND), &file);
        let round = round.map_err(|error| format!("round with seed {seed}: {error}"))?;
        if judge(&round, options, &mut figures)? {
            std::fs::remove_file(&file)?;
        } else {
            println!("  whole history: {}", file.display());
            for (node, cluster) in clusters.iter().enumerate() {
                let log = options.directory.join(format!("history-{seed}-{node}.log"));
                std::fs::copy(cluster.log(), &log)?;
                println!("  log of node {node}: {}", log.display());
            }
        }
        seed += 1;
        // One round is the whole of a bounded number of operations.
        if options.operations.is_some() {
            break;
        }
        if options.seconds > 2 * ROUND.as_secs() {
            println!(
                "  after {} s: {} statements, {} violations",
                began.elapsed().as_secs(),
                figures.operations,
                figures.violations
            );
        }
    }
    println!("{figures}");
    let missing = missing(options, &figures);
    for what in &missing {
        println!("  never seen, so nothing was proved of it: {what}");
    }
    Ok(figures.violations == 0 && missing.is_empty())
}

/// What a run of this length should have shown and has not. Leases alone, and short looks, prove what they prove.
fn missing(options: &Options, figures: &Figures) -> Vec<&'static str> {
    let enough =
        options.seconds >= 20 && options.operations.is_none() && options.mix != Some(Mix::Leases);
    if enough { figures.missing(options.faults, options.nodes) } else { Vec::new() }
}

/// Checks a history and shows what is wrong with it.
fn judge(history: &History, options: &Options, figures: &mut Figures) -> Result<bool> {
    let options = check::Options { reset_detection: options.reset_detection };
    let violations = check::check(history, options);
    figures.add(history, violations.len());
    // They are sorted by rule. The first of each is shown, and how many there are.
    for of_rule in violations.chunk_by(|one, other| one.rule == other.rule) {
        let Setup { seed, mix, .. } = &history.setup;
        for violation in of_rule.iter().take(SHOWN) {
            println!("VIOLATION {violation}");
        }
        println!(
            "  {} of this kind with seed {seed}, mix {mix:?}. The shortest part of the history that shows the first:",
            of_rule.len()
        );
        show(&check::shrink(history, &of_rule[0], options))?;
    }
    Ok(violations.is_empty())
}

fn show(part: &History) -> Result<()> {
    let lines = (part.keys.iter().cloned().map(Line::Key))
        .chain(part.events.iter().cloned().map(Line::Call))
        .chain(part.effects.iter().cloned().map(Line::Effect))
        .chain(part.traces.iter().cloned().map(Line::Trace));
    let mut out = std::io::stdout().lock();
    for line in lines {
        write(&mut out, &line)?;
    }
    Ok(())
}
