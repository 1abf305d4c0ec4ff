//! Clients with a transaction of five statements: BEGIN, claim, insert, complete, COMMIT. In a pipeline that takes two round trips, as
//! only the work must wait for the claim's outcome; the answer then cannot depend on what the work returns.

use futures_util::future::{join, join3};
use tokio_postgres::Statement;

use crate::caller::{Caller, FINISHED_ANSWER, REQUEST, Result, answer};
use crate::jsonb::Jsonb;
use crate::session::{Argument, Session, Store};

/// The business insert, of every side.
pub const PAY: &str =
    "INSERT INTO bench.payment (customer, amount) VALUES ('Ada', 25.00) RETURNING id";

/// A claim of ours returns its outcome; the insert by hand a row, if it has inserted one.
const CLAIM: &str = "SELECT outcome, response FROM idempotent_claim($1, $2, $3)";
const COMPLETE: &str = "SELECT idempotent_complete($1, $2, $3)";
const HAND_CLAIM: &str = "INSERT INTO bench.idempotency_key (key, request_hash) VALUES ($1, sha256(convert_to($2, 'UTF8')))
    ON CONFLICT (key) DO NOTHING RETURNING 'claimed'";
const HAND_COMPLETE: &str =
    "UPDATE bench.idempotency_key SET response = $2, finished_at = now() WHERE key = $1";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    OneByOne,
    Pipelined,
}

pub struct Block {
    session: Session,
    claim: Statement,
    pay: Statement,
    complete: Statement,
    sent: Sent,
}

impl Block {
    pub fn new(operation: &str, store: Store, sent: Sent) -> Result<Self> {
        let session = Session::open(operation, store)?;
        let (claim, complete) =
            if store == Store::Ours { (CLAIM, COMPLETE) } else { (HAND_CLAIM, HAND_COMPLETE) };
        let (claim, complete) = (session.prepare(claim)?, session.prepare(complete)?);
        let pay = session.prepare(PAY)?;
        Ok(Self { session, claim, pay, complete, sent })
    }

    fn arguments<'a>(&'a self, key: &'a &'a str, last: Argument<'a>) -> Vec<Argument<'a>> {
        if self.session.store == Store::Ours {
            vec![&self.session.operation, key, last]
        } else {
            vec![key, last]
        }
    }

    fn one_by_one(&self, key: &str) -> Result<String> {
        self.session.tell("BEGIN")?;
        let claimed = self.session.ask(&self.claim, &self.arguments(&key, self.request()))?;
        expect_claimed(claimed.try_get(0)?)?;
        let answer = answer(self.session.ask(&self.pay, &[])?.try_get(0)?);
        let response = Jsonb(answer.as_str());
        let arguments = self.arguments(&key, &response);
        self.session.together(async |client| client.execute(&self.complete, &arguments).await)?;
        self.session.tell("COMMIT")?;
        Ok(answer)
    }

    fn pipelined(&self, key: &str) -> Result<String> {
        let arguments = self.arguments(&key, self.request());
        let (begun, claimed) = self.session.together(async |client| {
            join(client.batch_execute("BEGIN"), client.query_one(&self.claim, &arguments)).await
        });
        begun?;
        expect_claimed(claimed?.try_get(0)?)?;
        let response = Jsonb(FINISHED_ANSWER);
        let arguments = self.arguments(&key, &response);
        let (paid, completed, committed) = self.session.together(async |client| {
            join3(
                client.query_one(&self.pay, &[]),
                client.execute(&self.complete, &arguments),
                client.batch_execute("COMMIT"),
            )
            .await
        });
        paid?;
        completed?;
        committed?;
        Ok(FINISHED_ANSWER.to_owned())
    }

    fn request(&self) -> Argument<'static> {
        if self.session.store == Store::Ours { &Jsonb(REQUEST) } else { &REQUEST }
    }
}

impl Caller for Block {
    fn call(&mut self, key: &str) -> Result<String> {
        match self.sent {
            Sent::OneByOne => self.one_by_one(key),
            Sent::Pipelined => self.pipelined(key),
        }
    }

    fn kept(&mut self, key: &str) -> Result<Option<String>> {
        self.session.kept(key)
    }

    fn clock(&mut self) -> Result<Option<f64>> {
        self.session.clock()
    }
}

fn expect_claimed(outcome: &str) -> Result<()> {
    if outcome != "claimed" {
        return Err(format!("expected the outcome claimed, got {outcome}").into());
    }
    Ok(())
}
