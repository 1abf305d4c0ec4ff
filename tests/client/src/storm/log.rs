//! What became of every delivery, into a table, so that SQL can judge it.

use std::io::Write as _;

use postgres::Client;

use super::Result;
use super::kill::Killed;
use super::side::Side;

/// One attempt of one delivery.
#[derive(Clone, Debug)]
pub struct Entry {
    pub delivery: i32,
    pub attempt: i32,
    pub purchase: i32,
    pub fate: Fate,
}

#[derive(Clone, Debug)]
pub enum Fate {
    Answered { outcome: String, response: Option<String> },
    Killed(Killed),
}

/// All of a side's entries, in one COPY: a storm that stopped half way leaves nothing that could pass for whole.
pub fn write(client: &mut Client, side: &Side, entries: &[Entry]) -> Result<()> {
    let mut copy = client.copy_in(
        "COPY demo_storm.delivery (side, delivery, attempt, purchase, outcome, response, killed) FROM STDIN",
    )?;
    for entry in entries {
        let (outcome, response, killed) = match &entry.fate {
            Fate::Answered { outcome, response } => {
                (Some(outcome.as_str()), response.as_deref(), None)
            }
            Fate::Killed(Killed::BeforeCommit) => (None, None, Some("before COMMIT")),
            Fate::Killed(Killed::AfterCommit) => (None, None, Some("after COMMIT")),
        };
        writeln!(
            copy,
            "{}\t{}\t{}\t{}\t{}\t{}\t{}",
            side.name(),
            entry.delivery,
            entry.attempt,
            entry.purchase,
            field(outcome),
            field(response),
            field(killed)
        )?;
    }
    copy.finish()?;
    Ok(())
}

/// A value in COPY's text format.
fn field(value: Option<&str>) -> String {
    value.map_or_else(
        || "\\N".to_owned(),
        |value| {
            value
                .replace('\\', "\\\\")
                .replace('\t', "\\t")
                .replace('\n', "\\n")
                .replace('\r', "\\r")
        },
    )
}
