//! Moves slots from node to node, at random, from a seed, as docs/scale.md says: given up, exported, imported, taken. Crashes befall
//! it, and it breaks itself off; then it begins again.

use std::error::Error as _;
use std::thread;
use std::time::{Duration, Instant};

use client::connect::Server;
use fastrand::Rng;
use postgres::Client;

use super::routing::Table;
use super::{Move, slots_of};
use crate::Result;
use crate::history::Line;
use crate::options::Plant;
use crate::play::stage::Stage;

/// Between two moves.
const PAUSE_MS: std::ops::Range<u64> = 50..600;
/// A router may be late by so much.
const LATE_MS: u64 = 50;
/// Rows of one transaction.
const BATCH: usize = 50;
/// A node that does not come back for so long never will.
const PATIENCE: Duration = Duration::from_secs(90);
/// For what is open in slots that go.
const IMPATIENT: &str = "SET lock_timeout = '2s'";
/// Sequences of business tables go on above those of the old node, however much is drawn meanwhile.
const PLACES: &str = "SELECT setval('offset_trace_place_seq', greatest(nextval('offset_trace_place_seq') + 1000000, $1::bigint + 1))";

pub struct Mover<'a> {
    pub stage: &'a Stage,
    /// The databases of the round, reached directly.
    pub nodes: Vec<Server>,
    pub plant: Option<Plant>,
}

impl Mover<'_> {
    /// Until the stage is over; a move that was begun is brought to its end.
    pub fn run(&self, seed: u64) -> Result<()> {
        let mut rng = Rng::with_seed(seed);
        let mut table = self.stage.routes.read();
        while !self.stage.is_over() {
            thread::sleep(Duration::from_millis(rng.u64(PAUSE_MS)));
            let part = rng.usize(..table.len());
            let others = u32::try_from(self.nodes.len())?;
            let to = (table[part] + rng.u32(1..others)) % others;
            let moved = self.make(part, to, &mut table, &mut rng)?;
            let done = moved.done;
            self.stage.record(&Line::Move(moved));
            if done {
                thread::sleep(Duration::from_millis(rng.u64(..LATE_MS)));
                self.stage.routes.publish(part, to);
            }
        }
        Ok(())
    }

    /// One move; `table` is what the nodes answer for.
    fn make(&self, part: usize, to: u32, table: &mut Table, rng: &mut Rng) -> Result<Move> {
        let from = table[part];
        let mut moved = Move { part, from, to, start: self.stage.now(), ..Move::default() };
        let held = |node: u32, table: &Table| {
            slots_of((0..table.len()).filter(|part| table[*part] == node))
        };
        let mut without = *table;
        without[part] = to;
        moved.done = self.own(from, &held(from, &without), &mut moved.again)?;
        if !moved.done {
            moved.end = self.stage.now();
            return Ok(moved);
        }
        if self.plant != Some(Plant::Export) {
            while !self.carry(&mut moved, rng)? {
                moved.again += 1;
            }
        }
        while !self.own(to, &held(to, &without), &mut moved.again)? {}
        *table = without;
        moved.done = true;
        moved.end = self.stage.now();
        Ok(moved)
    }

    /// Has a node answer for these slots; `false` if that was refused because of what is open. A lost connection leaves unknown whether
    /// it does: to ask for the same again is harmless.
    fn own(&self, node: u32, slots: &str, again: &mut u32) -> Result<bool> {
        let sql = format!("SELECT idempotent_own('{slots}')");
        loop {
            let mut client = self.reach(node)?;
            let asked = client.batch_execute(IMPATIENT).and_then(|()| client.batch_execute(&sql));
            match asked {
                Ok(()) => return Ok(true),
                Err(error) if is_in_the_way(&error) => return Ok(false),
                Err(error) if is_lost(&error) => *again += 1,
                Err(error) => return Err(in_words(&error)),
            }
        }
    }

    /// Exports and imports; `false` if it was broken off, at a moment that the seed decides, or by a crash.
    fn carry(&self, moved: &mut Move, rng: &mut Rng) -> Result<bool> {
        match self.try_carry(moved, rng) {
            Ok(done) => Ok(done),
            Err(error) if is_lost(&error) => Ok(false),
            Err(error) if is_in_the_way(&error) => {
                if self.stage.is_over() {
                    self.roll_back_prepared(moved.from)?;
                }
                Ok(false)
            }
            Err(error) => Err(in_words(&error)),
        }
    }

    /// What a client has prepared and not settled before the end would be in the way of an export for ever.
    fn roll_back_prepared(&self, node: u32) -> Result<()> {
        let mut client = self.reach(node)?;
        let left = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()";
        let Ok(rows) = client.query(left, &[]) else { return Ok(()) };
        for row in rows {
            let gid: String = row.get(0);
            // Its client may be faster, or the node go down.
            let _ = client.batch_execute(&format!("ROLLBACK PREPARED '{gid}'"));
        }
        Ok(())
    }

    fn try_carry(
        &self,
        moved: &mut Move,
        rng: &mut Rng,
    ) -> std::result::Result<bool, postgres::Error> {
        let slots = slots_of(std::iter::once(moved.part));
        let (Ok(mut from), Ok(mut to)) = (self.reach(moved.from), self.reach(moved.to)) else {
            return Ok(false);
        };
        from.batch_execute(IMPATIENT)?;
        let exported =
            from.query(&format!("SELECT row::text FROM idempotent_export('{slots}') AS row"), &[])?;
        let rows: Vec<String> = exported.iter().map(|row| row.get(0)).collect();
        let breaks_off = rng.u32(..3) == 0;
        for batch in rows.chunks(BATCH) {
            let said = to.query(
                "SELECT idempotent_import(line::jsonb) FROM unnest($1::text[]) AS line",
                &[&batch],
            )?;
            for row in said {
                *moved.rows.entry(row.get(0)).or_default() += 1;
            }
            if breaks_off && rng.u32(..4) == 0 {
                return Ok(false);
            }
        }
        let place: i64 =
            from.query_one("SELECT last_value FROM offset_trace_place_seq", &[])?.get(0);
        to.execute(PLACES, &[&place])?;
        Ok(true)
    }

    /// A connection to a node that may be down for a while.
    fn reach(&self, node: u32) -> Result<Client> {
        let began = Instant::now();
        loop {
            match self.nodes[usize::try_from(node)?].client() {
                Ok(client) => return Ok(client),
                Err(error) if began.elapsed() > PATIENCE => return Err(error.into()),
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

/// An error of the server by itself says "db error".
/// Something is open that the statement would wait for longer.
fn is_in_the_way(error: &postgres::Error) -> bool {
    error.code().is_some_and(|code| code.code() == "55P03")
}

fn in_words(error: &postgres::Error) -> Box<dyn std::error::Error + Send + Sync> {
    match error.as_db_error() {
        Some(db) => {
            format!("a move: {db} ({}) {}", db.code().code(), db.detail().unwrap_or("")).into()
        }
        None => format!("a move: {error}").into(),
    }
}

/// Whether the connection is gone, or the server going: class 57P.
fn is_lost(error: &postgres::Error) -> bool {
    error.is_closed()
        || error.source().is_some_and(|source| source.is::<std::io::Error>())
        || error.code().is_some_and(|code| code.code().starts_with("57P"))
}
