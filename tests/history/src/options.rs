//! The command line.

use std::path::PathBuf;

use crate::Result;
use crate::plan::Mix;

pub const USAGE: &str = "\
usage: history [--seconds N] [--operations N] [--clients N] [--keys N] [--seed N] [--faults all|none]
               [--mix everything|leases] [--nodes N] [--directory DIR] [--reset-detection on|off]
               [--plant export]
       history --check FILE [--reset-detection on|off]

Runs clients and faults against a Postgres of its own (PGBIN: the directory of its programs, with pg_idempotent
installed), in rounds of at most a minute, and checks what was recorded. A round that breaks a promise leaves its
history in DIR. Several nodes have slots each, which move between them; a plant leaves a step of the moves out, and is
to be noticed.";

/// A step that moves of slots leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// Nothing of what the old node knows is brought to the new one.
    Export,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub seconds: u64,
    /// Statements a round, if that is reached first.
    pub operations: Option<u64>,
    pub clients: u32,
    pub keys: usize,
    pub seed: u64,
    pub faults: bool,
    pub nodes: u32,
    pub plant: Option<Plant>,
    /// `None`: everything, and every fourth round leases alone.
    pub mix: Option<Mix>,
    pub directory: PathBuf,
    /// Off for a version that has none: then dated keys of unlogged operations may run again after a crash.
    pub reset_detection: bool,
    pub check: Option<PathBuf>,
}

impl Options {
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            seconds: 60,
            operations: None,
            clients: 8,
            // All seven operations in all three ways to date a key.
            keys: 21,
            seed: fastrand::u64(..1_000_000_000),
            faults: true,
            nodes: 1,
            plant: None,
            mix: None,
            directory: std::env::temp_dir(),
            reset_detection: true,
            check: None,
        };
        let mut arguments = arguments;
        while let Some(option) = arguments.next() {
            let value =
                arguments.next().ok_or_else(|| format!("{option}: a value is missing\n{USAGE}"))?;
            match option.as_str() {
                "--seconds" => options.seconds = value.parse()?,
                "--operations" => options.operations = Some(value.parse()?),
                "--clients" => options.clients = value.parse()?,
                "--keys" => options.keys = value.parse::<usize>()?.max(1),
                "--seed" => options.seed = value.parse()?,
                "--faults" if value == "all" || value == "none" => options.faults = value == "all",
                "--nodes" => options.nodes = value.parse::<u32>()?.max(1),
                "--plant" if value == "export" => options.plant = Some(Plant::Export),
                "--mix" if value == "everything" => options.mix = Some(Mix::Everything),
                "--mix" if value == "leases" => options.mix = Some(Mix::Leases),
                "--reset-detection" if value == "on" || value == "off" => {
                    options.reset_detection = value == "on";
                }
                "--directory" => options.directory = value.into(),
                "--check" => options.check = Some(value.into()),
                _ => return Err(format!("{option} {value}: not understood\n{USAGE}").into()),
            }
        }
        Ok(options)
    }
}
