//! Clients that send one statement.

use tokio_postgres::Statement;

use crate::caller::{Caller, REQUEST, Result};
use crate::jsonb::Jsonb;
use crate::session::{Argument, Session, Store, response_of};

/// The parameters of a statement, in order.
#[derive(Clone, Copy)]
enum Takes {
    OperationKeyRequest,
    OperationKey,
    KeyRequest,
    Key,
    Request,
    Nothing,
}

/// What a statement is, and the outcome in its first column, if it has one. The answer is in its last.
pub struct Call {
    sql: &'static str,
    takes: Takes,
    outcome: Option<&'static str>,
    store: Store,
}

pub const RUN: Call = run("executed");
pub const RETRY: Call = run("replay");
pub const CLAIM: Call = Call {
    sql: "SELECT outcome, response FROM idempotent_claim($1, $2, $3)",
    takes: Takes::OperationKeyRequest,
    outcome: Some("replay"),
    store: Store::Ours,
};
pub const REPLAY: Call = Call {
    sql: "SELECT outcome, response FROM idempotent_replay($1, $2)",
    takes: Takes::OperationKey,
    outcome: Some("replay"),
    store: Store::Ours,
};
pub const SELECT: Call = Call {
    sql: "SELECT finished_at, response FROM bench.idempotency_key WHERE key = $1",
    takes: Takes::Key,
    outcome: None,
    store: Store::ByHand,
};
pub const HAND_RUN: Call = Call {
    sql: "SELECT outcome, answer FROM bench.hand_run($1, $2)",
    takes: Takes::KeyRequest,
    outcome: Some("executed"),
    store: Store::ByHand,
};
pub const HANDLER: Call = Call {
    sql: "SELECT bench.pay($1)",
    takes: Takes::Request,
    outcome: None,
    store: Store::Nowhere,
};
/// What any statement takes.
pub const CONSTANT: Call = Call {
    sql: r#"SELECT '{"state": "paid", "payment": 1}'::jsonb"#,
    takes: Takes::Nothing,
    outcome: None,
    store: Store::Nowhere,
};

const fn run(outcome: &'static str) -> Call {
    Call {
        sql: "SELECT outcome, response FROM idempotent_run($1, $2, $3, 'bench.pay(jsonb)')",
        takes: Takes::OperationKeyRequest,
        outcome: Some(outcome),
        store: Store::Ours,
    }
}

pub struct Single {
    session: Session,
    statement: Statement,
    call: Call,
}

impl Single {
    pub fn new(operation: &str, call: Call) -> Result<Self> {
        let session = Session::open(operation, call.store)?;
        let statement = session.prepare(call.sql)?;
        Ok(Self { session, statement, call })
    }
}

impl Caller for Single {
    fn call(&mut self, key: &str) -> Result<String> {
        let operation = &self.session.operation;
        let request = Jsonb(REQUEST);
        let arguments: &[Argument<'_>] = match self.call.takes {
            Takes::OperationKeyRequest => &[operation, &key, &request],
            Takes::OperationKey => &[operation, &key],
            Takes::KeyRequest => &[&key, &request],
            Takes::Key => &[&key],
            Takes::Request => &[&request],
            Takes::Nothing => &[],
        };
        let row = self.session.ask(&self.statement, arguments)?;
        if let Some(outcome) = self.call.outcome {
            let found: &str = row.try_get(0)?;
            if found != outcome {
                return Err(format!("expected the outcome {outcome}, got {found}").into());
            }
        }
        response_of(&row)
    }

    fn kept(&mut self, key: &str) -> Result<Option<String>> {
        self.session.kept(key)
    }

    fn clock(&mut self) -> Result<Option<f64>> {
        self.session.clock()
    }
}
