//! One client: its connection, which is often lost, and the record of what it called.

use std::thread;
use std::time::{Duration, Instant};

use client::Wire;

use super::patterns::Memory;
use super::sql;
use super::stage::Stage;
use crate::history::{Call, Event, Key, Line, Outcome, TxnId};

/// A call that takes longer is ended by the server: nobody waits for ever for a prepared transaction.
const OPTIONS: &str = "-c statement_timeout=5s";
/// A server that does not come back for so long never will.
const PATIENCE: Duration = Duration::from_secs(90);
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
    wire: Option<Wire>,
    epoch: i64,
    numbers: u32,
    transactions: u32,
    /// The explicit transaction that is open.
    open: Option<TxnId>,
}

impl<'a> Session<'a> {
    pub fn new(stage: &'a Stage, client: u32) -> Self {
        Self {
            stage,
            failure: None,
            memory: Memory::default(),
            client,
            closing: false,
            wire: None,
            epoch: 0,
            numbers: 0,
            transactions: 0,
            open: None,
        }
    }

    /// One that brings keys to an answer when all is over.
    pub fn closing(stage: &'a Stage, client: u32) -> Self {
        Self { closing: true, ..Self::new(stage, client) }
    }

    /// Makes sure that there is a connection; `false` when there cannot be one.
    pub fn connect(&mut self) -> bool {
        let began = Instant::now();
        while self.wire.is_none() {
            if let Some((wire, epoch)) = self.try_connect() {
                self.wire = Some(wire);
                self.epoch = epoch;
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
        let mut wire = Wire::connect(&self.stage.server, &name, OPTIONS).ok()?;
        wire.send(EPOCH).ok()?;
        let reply = wire.receive().ok()?;
        let epoch = reply.rows.first()?.first()?.as_deref()?.parse().ok()?;
        Some((wire, epoch))
    }

    pub fn is_connected(&self) -> bool {
        self.wire.is_some()
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
        format!("{} {}", self.stage.server.database, self.number())
    }

    /// Sends one statement, waits for what comes back, and writes both down.
    pub fn call(&mut self, call: Call, key: Option<&Key>) -> Outcome {
        let is_begin = matches!(call, Call::Begin { .. });
        let ends = matches!(call, Call::Commit | Call::Rollback | Call::Prepare { .. });
        let txn = match self.open {
            Some(open) => open,
            None => {
                self.transactions += 1;
                u64::from(self.client) << 32 | u64::from(self.transactions)
            }
        };
        let statement = sql::statement(&call, key, &self.stage.operations, self.client, self.epoch);
        let start = self.stage.now();
        let outcome = self.exchange(&call, &statement);
        let end = self.stage.now();
        self.open =
            (self.wire.is_some() && !ends && (is_begin || self.open.is_some())).then_some(txn);
        self.stage.record(&Line::Call(Event {
            start,
            end,
            client: self.client,
            epoch: self.epoch,
            txn,
            closing: self.closing,
            call,
            outcome: outcome.clone(),
        }));
        outcome
    }

    fn exchange(&mut self, call: &Call, statement: &str) -> Outcome {
        let Some(wire) = &mut self.wire else {
            return Outcome::Lost;
        };
        let reply = wire.send(statement).and_then(|()| wire.receive());
        let Ok(reply) = reply else {
            self.wire = None;
            return Outcome::Lost;
        };
        if reply.transaction == 'X' {
            self.wire = None;
        }
        sql::outcome(call, &reply)
    }

    /// Throws the connection away, whatever is open in it.
    pub fn abandon(&mut self) {
        if let Some(wire) = self.wire.take() {
            wire.throw_away();
        }
        self.open = None;
    }

    /// A script that went wrong must not leave its transaction to the next one.
    pub fn leave_no_transaction(&mut self) {
        if self.open.is_some() {
            self.call(Call::Rollback, None);
        }
    }

    /// Settles an `unknown` as an operator would: looks whether the work is there. Only where no reset can have
    /// hidden a transaction that is still to come.
    pub fn settle_unknown(&mut self, key: &Key) {
        if self.open.is_none() && self.stage.operations[key.operation].logged {
            self.resolve(key);
        }
    }

    pub fn resolve(&mut self, key: &Key) {
        let Some(wire) = &mut self.wire else { return };
        let look = format!("SELECT count(*) FROM effect WHERE key = {}", key.id);
        let reply = match wire.send(&look).and_then(|()| wire.receive()) {
            Ok(reply) if reply.code().is_empty() && reply.transaction == 'I' => reply,
            _ => {
                self.wire = None;
                return;
            }
        };
        let answer = (reply.value() != "0").then(|| self.number());
        self.call(Call::Resolve { key: key.id, answer }, Some(key));
    }
}
