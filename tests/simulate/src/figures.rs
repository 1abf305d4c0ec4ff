//! What came of a run, in numbers, and what follows from it for all keys: with what one record, claim and page was measured to take.

use std::fmt;

use rules::Micros;

use crate::SECOND;
use crate::ledger::Ledger;
use crate::plan::Plan;

#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub sent: u64,
    pub claims: u64,
    pub completed: u64,
    pub replays: u64,
    /// Calls of a slot that another node has, or that is on its way.
    pub refused: u64,
    pub unreachable: u64,
    pub unknown: u64,
    pub expired: u64,
    pub fences_refused: u64,
    pub given_up: u64,
    pub swept: u64,
    pub crashes: u64,
    pub failovers: u64,
    pub lost_nodes: u64,
    pub moves: u64,
    pub slots_moved: u64,
    longest_move: Micros,
    answered: u64,
    /// Answers that took longer than a second, a minute.
    late: [u64; 2],
    most_records: u64,
    nodes: u64,
    keys: u64,
    excused: u64,
    sample: u64,
    seconds: u64,
}

impl Figures {
    pub fn note_answer(&mut self, after: Micros) {
        self.answered += 1;
        self.late[0] += u64::from(after > SECOND);
        self.late[1] += u64::from(after > 60 * SECOND);
    }

    pub fn note_move(&mut self, away: Micros, slots: usize) {
        self.moves += 1;
        self.slots_moved += slots as u64;
        self.longest_move = self.longest_move.max(away);
    }

    pub fn note_size(&mut self, records: u64) {
        self.most_records = self.most_records.max(records);
    }

    pub fn note_end(&mut self, plan: &Plan, ledger: &Ledger, nodes: usize) {
        self.nodes = nodes as u64;
        self.excused = ledger.excused;
        self.sample = plan.sample;
        self.seconds = u64::try_from(plan.hours * 3600).unwrap_or(0);
        self.keys = self.seconds * plan.rate / plan.sample;
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |what: &str, number: u64| writeln!(out, "  {number:>12} {what}");
        line("keys were played", self.keys)?;
        line("calls were sent", self.sent)?;
        line("claims", self.claims)?;
        line("answers stored", self.completed)?;
        line("replays", self.replays)?;
        line("calls refused by a node that does not have the slot", self.refused)?;
        line("calls of a node that was down", self.unreachable)?;
        line("answered unknown", self.unknown)?;
        line("answered expired", self.expired)?;
        line("completions refused for their fence", self.fences_refused)?;
        line("clients that gave up after two hours", self.given_up)?;
        line("records swept", self.swept)?;
        line("crashes of nodes", self.crashes)?;
        line("failovers to a synchronous standby", self.failovers)?;
        line("nodes lost for good", self.lost_nodes)?;
        line("moves of slots", self.moves)?;
        line("slots moved", self.slots_moved)?;
        line(
            "ms that slots were away, at most",
            u64::try_from(self.longest_move / 1000).unwrap_or(0),
        )?;
        line("answers that came", self.answered)?;
        line("of them after more than a second", self.late[0])?;
        line("of them after more than a minute", self.late[1])?;
        line(
            "second effects that are not promised away: no date, or one ahead, and the record lost or expired",
            self.excused,
        )
    }
}

/// What was measured of one logged claim with a small answer, in bytes. docs/scale.md says how.
pub struct Measured {
    /// A record with both entries in indexes, as a run of claims leaves them.
    pub record: u64,
    /// Of it in the index of the primary key.
    pub index: u64,
    /// WAL, between two checkpoints.
    pub wal: u64,
    /// WAL, right after a checkpoint.
    pub wal_after: u64,
}

/// Of keys that are `UUIDv7`.
pub const DATED: Measured = Measured { record: 243, index: 32, wal: 409, wal_after: 434 };
/// Of other keys.
pub const RANDOM: Measured = Measured { record: 255, index: 43, wal: 425, wal_after: 6_243 };
/// WAL of a claim with its sweep and vacuum.
const WAL_SWEPT: u64 = 660;

/// Transaction ids after which Postgres freezes a table, asked or not: `autovacuum_freeze_max_age`.
const FREEZE: u64 = 200_000_000;

/// What one node of so many has to bear. Everything here is reckoned, from what was measured and what was simulated.
pub fn paper(figures: &Figures, plan: &Plan) -> String {
    let nodes = plan.nodes as u64;
    let of_all = |counted: u64| counted * figures.sample;
    let per_second = |counted: u64| of_all(counted) / figures.seconds.max(1);
    let (claims, kept) = (of_all(figures.completed) / nodes, of_all(figures.most_records));
    let rate = per_second(figures.completed) / nodes;
    let (gb, mb) = (1_000_000_000, 1_000_000);
    let mut lines = vec![
        ("calls a second, of all nodes", per_second(figures.sent), "simulated"),
        ("answers stored a second, of all nodes", per_second(figures.completed), "simulated"),
        ("replays a second, of all nodes", per_second(figures.replays), "simulated"),
        ("answers stored a second, of one node", rate, "simulated"),
        ("records of one node, all kept for a day", claims, "simulated"),
        (
            "records of the fullest node, with the retentions and moves of the model",
            kept,
            "simulated",
        ),
        ("bytes of WAL of a claim, its sweep and vacuum", WAL_SWEPT, "measured"),
        ("MB of WAL a second", rate * WAL_SWEPT / mb, "reckoned"),
        ("transaction ids a day, one a claim", rate * 86_400, "reckoned"),
        ("minutes between two freezes that Postgres forces", FREEZE / rate.max(1) / 60, "reckoned"),
        ("transaction ids a day, batches of 1,000", rate * 86_400 / 1_000, "reckoned"),
    ];
    for (m, whose) in [
        (DATED, "bytes of a record, keys that are UUIDv7"),
        (RANDOM, "bytes of a record, other keys"),
    ] {
        let of = [
            whose,
            "GB of records",
            "bytes of it in the index of ids",
            "GB of that index",
            "bytes of WAL of a claim",
            "MB of WAL a second right after a checkpoint",
        ];
        let numbers = [
            (m.record, "measured"),
            (claims * m.record / gb, "reckoned"),
            (m.index, "measured"),
            (claims * m.index / gb, "reckoned"),
            (m.wal, "measured"),
            (rate * m.wal_after / mb, "reckoned"),
        ];
        lines.extend(of.into_iter().zip(numbers).map(|(what, (number, how))| (what, number, how)));
    }
    lines.iter().map(|(what, number, how)| format!("  {number:>14} {what} ({how})\n")).collect()
}
