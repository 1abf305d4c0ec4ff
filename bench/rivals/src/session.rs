//! A connection to Postgres: prepared statements, one after the other or in a pipeline.

use client::connect::Server;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row, Statement};

use crate::caller::Result;
use crate::jsonb::Jsonb;

pub type Argument<'a> = &'a (dyn ToSql + Sync);

const CLOCK: &str = "SELECT cpu::float8 FROM bench.clock()";

/// Where answers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Ours,
    ByHand,
    Nowhere,
}

impl Store {
    /// How a finished key is looked up.
    pub fn look(self) -> Option<&'static str> {
        match self {
            Self::Ours => Some("SELECT outcome, response FROM idempotent_replay($1, $2)"),
            Self::ByHand => {
                Some("SELECT finished_at, response FROM bench.idempotency_key WHERE key = $1")
            }
            Self::Nowhere => None,
        }
    }
}

pub struct Session {
    runtime: Runtime,
    client: Client,
    clock: Statement,
    look: Option<Statement>,
    pub store: Store,
    pub operation: String,
}

impl Session {
    /// With the settings that PGOPTIONS has for all clients of a benchmark.
    pub fn open(operation: &str, store: Store) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let client = runtime.block_on(async {
            let (client, connection) = config().connect(NoTls).await?;
            tokio::spawn(connection);
            Ok::<_, tokio_postgres::Error>(client)
        })?;
        let clock = runtime.block_on(client.prepare(CLOCK))?;
        let look = match store.look() {
            Some(sql) => Some(runtime.block_on(client.prepare(sql))?),
            None => None,
        };
        Ok(Self { runtime, client, clock, look, store, operation: operation.to_owned() })
    }

    pub fn prepare(&self, sql: &str) -> Result<Statement> {
        Ok(self.runtime.block_on(self.client.prepare(sql))?)
    }

    /// A statement that returns a row.
    pub fn ask(&self, statement: &Statement, arguments: &[Argument<'_>]) -> Result<Row> {
        Ok(self.runtime.block_on(self.client.query_one(statement, arguments))?)
    }

    /// The same, for once.
    pub fn one(&self, sql: &str, arguments: &[Argument<'_>]) -> Result<Row> {
        self.ask(&self.prepare(sql)?, arguments)
    }

    /// BEGIN or COMMIT.
    pub fn tell(&self, sql: &str) -> Result<()> {
        Ok(self.runtime.block_on(self.client.batch_execute(sql))?)
    }

    /// What one round trip is to hold.
    pub fn together<T>(&self, pipeline: impl AsyncFnOnce(&Client) -> T) -> T {
        self.runtime.block_on(pipeline(&self.client))
    }

    pub fn clock(&self) -> Result<Option<f64>> {
        Ok(self.ask(&self.clock, &[])?.try_get(0)?)
    }

    pub fn kept(&self, key: &str) -> Result<Option<String>> {
        let Some(look) = &self.look else { return Ok(None) };
        let arguments: &[Argument<'_>] = match self.store {
            Store::Ours => &[&self.operation, &key],
            Store::ByHand | Store::Nowhere => &[&key],
        };
        response_of(&self.ask(look, arguments)?).map(Some)
    }
}

/// The last column.
pub fn response_of(row: &Row) -> Result<String> {
    Ok(row.try_get::<_, Jsonb<String>>(row.len() - 1)?.0)
}

fn config() -> Config {
    let server = Server::from_env();
    let mut config = Config::new();
    config
        .host_path(&server.directory)
        .port(server.port)
        .user(&server.user)
        .dbname(&server.database)
        .application_name("rivals");
    if let Ok(options) = std::env::var("PGOPTIONS") {
        config.options(&options);
    }
    config
}
