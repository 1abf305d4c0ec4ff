//! tokio-postgres, pooled by deadpool-postgres.

use std::{
    error::Error,
    io,
    ops::{Deref, DerefMut},
};

use deadpool_postgres::{ClientWrapper, Manager, Object, Pool, PoolError};
use tokio_postgres::{
    Client,
    types::{ToSql, Type},
};

use crate::core::{
    database::{
        Cell, Connection, Database, DatabaseError, Isolation, Parameter, Row, Transaction, begin,
    },
    error::State,
    tx::Tx,
};

/// A [`Tx`] of tokio-postgres. [`lock`](Tx::lock) gives its `tokio_postgres::Client`; single statements have methods of the same names.
pub type PgTx = Tx<PgTransaction>;

/// A transaction on a connection of deadpool's. Dropped with the transaction open, the connection is closed instead of lent out again.
pub struct PgTransaction {
    object: Option<Object>,
}

impl std::fmt::Debug for PgTransaction {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("PgTransaction")
    }
}

impl PgTransaction {
    async fn end(mut self, command: &str) -> Result<(), DatabaseError> {
        // On an error it stays here, and is dropped with this.
        let client = self.client()?;
        client.batch_execute(command).await.map_err(|error| with(error, client))?;
        drop(self.object.take());
        Ok(())
    }

    fn client(&self) -> Result<&Client, DatabaseError> {
        let found = self.object.as_ref().map(|object| object as &Client);
        found.ok_or_else(|| DatabaseError {
            source: "the transaction has ended".into(),
            sqlstate: None,
            is_lost: false,
        })
    }
}

impl Drop for PgTransaction {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}

impl Connection for PgTransaction {
    async fn rows(
        &mut self,
        statement: &'static str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, DatabaseError> {
        rows(self.client()?, statement, parameters).await
    }
}

impl Transaction for PgTransaction {
    async fn commit(self) -> Result<(), DatabaseError> {
        self.end("COMMIT").await
    }

    async fn rollback(self) -> Result<(), DatabaseError> {
        self.end("ROLLBACK").await
    }
}

/// A connection that is in no pool; closed when it is dropped.
pub struct Own(ClientWrapper);

impl std::fmt::Debug for Own {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("Own")
    }
}

impl Connection for Own {
    async fn rows(
        &mut self,
        statement: &'static str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, DatabaseError> {
        rows(&self.0, statement, parameters).await
    }
}

impl Database for Pool {
    type Transaction = PgTransaction;
    type Own = Own;

    fn id(&self) -> usize {
        // It is shared by all clones of the pool, and stays where it is.
        std::ptr::from_ref::<Manager>(self.manager()).addr()
    }

    async fn begin(&self, isolation: Option<Isolation>) -> Result<PgTransaction, DatabaseError> {
        let object = self.get().await.map_err(of_pool)?;
        let transaction = PgTransaction { object: Some(object) };
        let client = transaction.client()?;
        client.batch_execute(begin(isolation)).await.map_err(|error| with(error, client))?;
        Ok(transaction)
    }

    async fn connect(&self) -> Result<Own, DatabaseError> {
        deadpool::managed::Manager::create(self.manager())
            .await
            .map(Own)
            .map_err(|error| DatabaseError::from_driver(error, true))
    }
}

/// Sent unnamed and with the types of its parameters: one round trip, and nothing that a PgBouncer would have to remember.
async fn rows(
    client: &Client,
    statement: &'static str,
    parameters: &[Parameter<'_>],
) -> Result<Vec<Row>, DatabaseError> {
    enum Value<'a> {
        Text(Option<&'a str>),
        Bytes(&'a [u8]),
    }
    let values: Vec<Value<'_>> = parameters
        .iter()
        .map(|parameter| match parameter {
            Parameter::Text(text) => Value::Text(text.as_deref()),
            Parameter::Bytes(bytes) => Value::Bytes(bytes),
        })
        .collect();
    let typed: Vec<(&(dyn ToSql + Sync), Type)> = values
        .iter()
        .map(|value| match value {
            Value::Text(text) => (text as &(dyn ToSql + Sync), Type::TEXT),
            Value::Bytes(bytes) => (bytes as &(dyn ToSql + Sync), Type::BYTEA),
        })
        .collect();
    let found = client.query_typed(statement, &typed).await.map_err(|error| with(error, client))?;
    found.iter().map(|row| (0..row.len()).map(|column| cell(row, column)).collect()).collect()
}

fn cell(row: &tokio_postgres::Row, column: usize) -> Result<Cell, DatabaseError> {
    let is_bytes = row.columns().get(column).is_some_and(|column| *column.type_() == Type::BYTEA);
    let found = if is_bytes {
        row.try_get::<_, Option<Vec<u8>>>(column)
            .map(|bytes| bytes.map_or(Cell::Text(None), Cell::Bytes))
    } else {
        row.try_get(column).map(Cell::Text)
    };
    found.map_err(|error| DatabaseError::from_driver(error, false))
}

impl DatabaseError {
    fn from_driver(error: tokio_postgres::Error, is_lost: bool) -> Self {
        let sqlstate = error.code().map(|code| code.code().to_owned());
        Self { is_lost: is_lost || is_lost_by(&error), sqlstate, source: error.into() }
    }
}

fn with(error: tokio_postgres::Error, client: &Client) -> DatabaseError {
    DatabaseError::from_driver(error, client.is_closed())
}

fn of_pool(error: PoolError) -> DatabaseError {
    match error {
        PoolError::Backend(error) => DatabaseError::from_driver(error, true),
        other => DatabaseError { sqlstate: None, is_lost: true, source: other.into() },
    }
}

fn is_lost_by(error: &tokio_postgres::Error) -> bool {
    error.is_closed() || error.source().is_some_and(|cause| cause.is::<io::Error>())
}

pub(crate) fn state_of<'a>(error: &'a (dyn Error + 'static)) -> Option<State<'a>> {
    let found = error.downcast_ref::<tokio_postgres::Error>()?;
    Some(State { sqlstate: found.code().map(|code| code.code()), is_lost: is_lost_by(found) })
}

impl Deref for PgTransaction {
    type Target = ClientWrapper;

    #[expect(
        clippy::expect_used,
        reason = "it is taken by what consumes the transaction, and by nothing else"
    )]
    fn deref(&self) -> &ClientWrapper {
        self.object.as_ref().expect("a transaction is open until it is consumed")
    }
}

impl DerefMut for PgTransaction {
    #[expect(
        clippy::expect_used,
        reason = "it is taken by what consumes the transaction, and by nothing else"
    )]
    fn deref_mut(&mut self) -> &mut ClientWrapper {
        self.object.as_mut().expect("a transaction is open until it is consumed")
    }
}

type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];
type BoxError = crate::BoxError;

impl PgTx {
    /// `tokio_postgres::Client::execute`
    pub async fn execute(
        &self,
        statement: &str,
        parameters: Parameters<'_>,
    ) -> Result<u64, BoxError> {
        Ok(self.lock().await?.execute(statement, parameters).await?)
    }

    /// `tokio_postgres::Client::query`
    pub async fn query(
        &self,
        statement: &str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<tokio_postgres::Row>, BoxError> {
        Ok(self.lock().await?.query(statement, parameters).await?)
    }

    /// `tokio_postgres::Client::query_one`
    pub async fn query_one(
        &self,
        statement: &str,
        parameters: Parameters<'_>,
    ) -> Result<tokio_postgres::Row, BoxError> {
        Ok(self.lock().await?.query_one(statement, parameters).await?)
    }

    /// `tokio_postgres::Client::query_opt`
    pub async fn query_opt(
        &self,
        statement: &str,
        parameters: Parameters<'_>,
    ) -> Result<Option<tokio_postgres::Row>, BoxError> {
        Ok(self.lock().await?.query_opt(statement, parameters).await?)
    }

    /// `tokio_postgres::Client::batch_execute`
    pub async fn batch_execute(&self, statements: &str) -> Result<(), BoxError> {
        Ok(self.lock().await?.batch_execute(statements).await?)
    }
}
