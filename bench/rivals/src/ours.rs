//! Clients of pg_idempotent: everything in Postgres, by prepared statements.

use client::connect::Server;
use postgres::{Client, NoTls, Row, Statement};

use crate::caller::{Caller, REQUEST, Result, answer};
use crate::jsonb::Jsonb;

const RUN: &str = "SELECT outcome, response FROM idempotent_run($1, $2, $3, 'bench.pay(jsonb)')";
const CLAIM: &str = "SELECT outcome, response FROM idempotent_claim($1, $2, $3)";
const COMPLETE: &str = "SELECT idempotent_complete($1, $2, $3)";
const REPLAY: &str = "SELECT outcome, response FROM idempotent_replay($1, $2)";
/// The business insert, the rival's too.
pub const PAY: &str =
    "INSERT INTO bench.payment (customer, amount) VALUES ('Ada', 25.00) RETURNING id";

/// A connection with the settings that PGOPTIONS has for all clients of a benchmark.
pub fn connect() -> Result<Client> {
    let mut config = Server::from_env().config();
    if let Ok(options) = std::env::var("PGOPTIONS") {
        config.options(&options);
    }
    Ok(config.connect(NoTls)?)
}

/// One call of `idempotent_run`: `executed` for a new key, `replay` for a finished one.
pub struct Run {
    replays: Replay,
    run: Statement,
    outcome: &'static str,
}

impl Run {
    pub fn new(operation: &str, outcome: &'static str) -> Result<Self> {
        let mut replays = Replay::new(operation)?;
        let run = replays.client.prepare(RUN)?;
        Ok(Self { replays, run, outcome })
    }
}

impl Caller for Run {
    fn call(&mut self, key: &str) -> Result<String> {
        let row = self
            .replays
            .client
            .query_one(&self.run, &[&self.replays.operation, &key, &Jsonb(REQUEST)])?;
        answer_of(&row, self.outcome)
    }

    fn kept(&mut self, key: &str) -> Result<String> {
        self.replays.call(key)
    }
}

/// A transaction of the client's: claim, insert, complete.
pub struct Block {
    replays: Replay,
    claim: Statement,
    pay: Statement,
    complete: Statement,
}

impl Block {
    pub fn new(operation: &str) -> Result<Self> {
        let mut replays = Replay::new(operation)?;
        let claim = replays.client.prepare(CLAIM)?;
        let pay = replays.client.prepare(PAY)?;
        let complete = replays.client.prepare(COMPLETE)?;
        Ok(Self { replays, claim, pay, complete })
    }
}

impl Caller for Block {
    fn call(&mut self, key: &str) -> Result<String> {
        let mut transaction = self.replays.client.transaction()?;
        let row = transaction
            .query_one(&self.claim, &[&self.replays.operation, &key, &Jsonb(REQUEST)])?;
        expect(&row, "claimed")?;
        let payment = transaction.query_one(&self.pay, &[])?.try_get(0)?;
        let answer = answer(payment);
        transaction
            .query_one(&self.complete, &[&self.replays.operation, &key, &Jsonb(answer.as_str())])?;
        transaction.commit()?;
        Ok(answer)
    }

    fn kept(&mut self, key: &str) -> Result<String> {
        self.replays.call(key)
    }
}

/// One call of `idempotent_replay` for a finished key.
pub struct Replay {
    operation: String,
    client: Client,
    replay: Statement,
}

impl Replay {
    pub fn new(operation: &str) -> Result<Self> {
        let mut client = connect()?;
        let replay = client.prepare(REPLAY)?;
        Ok(Self { operation: operation.to_owned(), client, replay })
    }
}

impl Caller for Replay {
    fn call(&mut self, key: &str) -> Result<String> {
        let row = self.client.query_one(&self.replay, &[&self.operation, &key])?;
        answer_of(&row, "replay")
    }

    fn kept(&mut self, key: &str) -> Result<String> {
        self.call(key)
    }
}

fn answer_of(row: &Row, outcome: &str) -> Result<String> {
    expect(row, outcome)?;
    Ok(row.try_get::<_, Jsonb<String>>(1)?.0)
}

fn expect(row: &Row, outcome: &str) -> Result<()> {
    let found: &str = row.try_get(0)?;
    if found != outcome {
        return Err(format!("expected the outcome {outcome}, got {found}").into());
    }
    Ok(())
}
