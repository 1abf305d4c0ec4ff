//! One client: its connection, which is often lost, and the record of what it called.

use std::thread;
use std::time::{Duration, Instant};

use client::Wire;

use super::patterns::Memory;
use super::sql;
use super::stage::Stage;
use crate::history::{Call, Event, Key, Line, Outcome, TxnId};
use crate::nodes::part_of;
use crate::nodes::routing::Table;

/// A call that takes longer is ended by the server: nobody waits for ever for a prepared transaction.
const OPTIONS: &str = "-c statement_timeout=5s";
/// A server that does not come back for so long never will.
const PATIENCE: Duration = Duration::from_secs(90);
/// The slot is not that node's.
const ANOTHER_NODES: &str = "ID010";
const BREATH: Duration = Duration::from_millis(5);
/// The checkpointer is started anew with the shared memory, and lives as long.
const EPOCH: &str = "SELECT (extract(epoch FROM backend_start) * 1000000)::bigint
                       FROM pg_stat_activity WHERE backend_type = 'checkpointer'";

pub struct Session<'a> {
    pub stage: &'a Stage,
    pub failure: Option<Box<dyn std::error::Error + Send + Sync>>,
    /// What was given by patterns.
    pub memory: Memory,
    client: u32,
    closing: bool,
    /// To each node.
    wires: Vec<Option<Wire>>,
    /// The node that is asked.
    at: usize,
    /// Where the client thinks that slots are.
    table: Table,
    epoch: i64,
    numbers: u32,
    transactions: u32,
    /// The explicit transaction that is open.
    open: Option<TxnId>,
    /// The script is within a transaction, open or lost.
    in_block: bool,
}

impl<'a> Session<'a> {
    pub fn new(stage: &'a Stage, client: u32) -> Self {
        Self {
            stage,
            failure: None,
            memory: Memory::default(),
            client,
            closing: false,
            wires: stage.servers.iter().map(|_| None).collect(),
            at: 0,
            table: stage.routes.read(),
            epoch: 0,
            numbers: 0,
            transactions: 0,
            open: None,
            in_block: false,
        }
    }

    /// One that brings keys to an answer when all is over.
    pub fn closing(stage: &'a Stage, client: u32) -> Self {
        Self { closing: true, ..Self::new(stage, client) }
    }

    /// Makes sure that there is a connection; `false` when there cannot be one.
    pub fn connect(&mut self) -> bool {
        let began = Instant::now();
        while !self.is_connected() {
            if let Some((wire, epoch)) = self.try_connect() {
                self.wires[self.at] = Some(wire);
                self.epoch = epoch;
                self.in_block = false;
            } else if self.stage.is_over() && !self.closing {
                return false;
            } else if began.elapsed() > PATIENCE {
                self.failure = Some(format!("no connection for {} s", PATIENCE.as_secs()).into());
                return false;
            } else {
                thread::sleep(BREATH);
            }
        }
        true
    }

    fn try_connect(&self) -> Option<(Wire, i64)> {
        let name = format!("history {}", self.client);
        let mut wire = Wire::connect(&self.stage.servers[self.at], &name, OPTIONS).ok()?;
        wire.send(EPOCH).ok()?;
        let reply = wire.receive().ok()?;
        let epoch = reply.rows.first()?.first()?.as_deref()?.parse().ok()?;
        Some((wire, epoch))
    }

    pub fn is_connected(&self) -> bool {
        self.wires[self.at].is_some()
    }

    /// Turns to the node that has an owner's slot, as far as the client knows; not within a transaction.
    pub fn face(&mut self, owner: &str) {
        if self.stage.has_nodes() && self.open.is_none() {
            self.at = usize::try_from(self.table[part_of(owner)]).unwrap_or(0);
        }
    }

    /// Whether the node that is asked has the owner's slot; now and then another one is asked nevertheless.
    pub fn asks_here(&mut self, owner: &str) -> bool {
        !self.stage.has_nodes()
            || usize::try_from(self.table[part_of(owner)]).is_ok_and(|node| node == self.at)
            || self.number().is_multiple_of(8)
    }

    pub fn is_in_transaction(&self) -> bool {
        self.in_block
    }

    pub fn face_node(&mut self, node: u32) {
        self.at = usize::try_from(node).unwrap_or(0);
    }

    pub fn node(&self) -> u32 {
        u32::try_from(self.at).unwrap_or(0)
    }

    /// A number that nobody else has: of an effect, an answer, a checkpoint.
    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        (u64::from(self.client) + 1) * 1_000_000_000 + u64::from(self.numbers)
    }

    /// A name for an attempt, as a uuid.
    pub fn attempt_id(&mut self) -> String {
        format!("00000000-0000-4000-8000-{:012x}", self.number())
    }

    /// A name for a prepared transaction. Those of the whole server share a name space; its databases come one by one.
    pub fn gid(&mut self) -> String {
        format!("{} {}", self.stage.servers[self.at].database, self.number())
    }

    /// Sends one statement, waits for what comes back, and writes both down.
    pub fn call(&mut self, call: Call, key: Option<&Key>) -> Outcome {
        if let Some(owner) = owner(&call, key)
            && self.stage.has_nodes()
            && !self.in_block
        {
            self.face(&owner);
            self.connect();
        }
        let is_begin = matches!(call, Call::Begin { .. });
        self.in_block |= is_begin;
        let ends = matches!(call, Call::Commit | Call::Rollback | Call::Prepare { .. });
        let txn = match self.open {
            Some(open) => open,
            None => {
                self.transactions += 1;
                u64::from(self.client) << 32 | u64::from(self.transactions)
            }
        };
        if self.stage.has_nodes() {
            self.epoch =
                self.stage.crashes().unwrap_or_else(|| -i64::try_from(self.number()).unwrap_or(1));
        }
        let statement = sql::statement(&call, key, &self.stage.operations, self.client, self.epoch);
        let start = self.stage.now();
        let outcome = self.exchange(&call, &statement);
        let end = self.stage.now();
        self.open =
            (self.is_connected() && !ends && (is_begin || self.open.is_some())).then_some(txn);
        self.in_block &= !ends;
        self.stage.record(&Line::Call(Event {
            start,
            end,
            client: self.client,
            node: self.node(),
            epoch: self.epoch,
            txn,
            closing: self.closing,
            call,
            outcome: outcome.clone(),
        }));
        if outcome.code() == ANOTHER_NODES || outcome == Outcome::Lost {
            self.table = self.stage.routes.read();
        }
        outcome
    }

    fn exchange(&mut self, call: &Call, statement: &str) -> Outcome {
        let Some(wire) = &mut self.wires[self.at] else {
            return Outcome::Lost;
        };
        let reply = wire.send(statement).and_then(|()| wire.receive());
        let Ok(reply) = reply else {
            self.wires[self.at] = None;
            return Outcome::Lost;
        };
        if reply.transaction == 'X' {
            self.wires[self.at] = None;
        }
        sql::outcome(call, &reply)
    }

    /// Throws the connection away, whatever is open in it.
    pub fn abandon(&mut self) {
        if let Some(wire) = self.wires[self.at].take() {
            wire.throw_away();
        }
        (self.open, self.in_block) = (None, false);
    }

    /// A script that went wrong must not leave its transaction to the next one.
    pub fn leave_no_transaction(&mut self) {
        if self.open.is_some() {
            self.call(Call::Rollback, None);
        }
        self.in_block = false;
    }

    /// Settles an `unknown` as an operator would: looks whether the work is there. Only where no reset can have
    /// hidden a transaction that is still to come.
    pub fn settle_unknown(&mut self, key: &Key) {
        if self.open.is_none() && self.stage.operations[key.operation].logged {
            self.resolve(key);
        }
    }

    pub fn resolve(&mut self, key: &Key) {
        let Some(there) = self.count_effects(key) else { return };
        let answer = (there > 0).then(|| self.number());
        self.call(Call::Resolve { key: key.id, answer }, Some(key));
    }

    /// On all nodes: business rows stay where they were made. `None`: one of them did not say.
    fn count_effects(&mut self, key: &Key) -> Option<u64> {
        let look = format!("SELECT count(*) FROM effect WHERE key = {}", key.id);
        let (here, mut there) = (self.at, 0);
        for node in 0..self.wires.len() {
            self.at = node;
            let count = self.connect().then(|| self.count(&look)).flatten();
            self.at = here;
            there += count?;
        }
        Some(there)
    }

    fn count(&mut self, look: &str) -> Option<u64> {
        let wire = self.wires[self.at].as_mut()?;
        match wire.send(look).and_then(|()| wire.receive()) {
            Ok(reply) if reply.code().is_empty() && reply.transaction == 'I' => {
                reply.value().parse().ok()
            }
            _ => {
                self.wires[self.at] = None;
                None
            }
        }
    }
}

/// Whose data a call is about, if it is about any.
fn owner(call: &Call, key: Option<&Key>) -> Option<String> {
    match call {
        Call::Pattern(pattern) => pattern.owner(),
        _ => call.key().and(key).map(|key| key.text.clone()),
    }
}
