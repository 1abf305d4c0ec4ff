//! sqlx, with its own pool.

use std::{
    error::Error,
    ops::{Deref, DerefMut},
};

use sqlx::{
    Column, Connection as _, PgConnection, PgPool, Postgres, Row as _, TypeInfo,
    postgres::PgArguments, query::Query,
};

use crate::core::{
    database::{
        Cell, Connection, Database, DatabaseError, Isolation, Parameter, Row, Transaction, begin,
    },
    error::State,
    tx::Tx,
};

/// A [`Tx`] of sqlx. [`lock`](Tx::lock) gives its connection: `sqlx::query(..).execute(&mut **tx.lock().await?)`.
pub type SqlxTx = Tx<SqlxTransaction>;

/// A `sqlx::Transaction` on a connection of the pool. A type without a lifetime: with one, rustc cannot tell that a handler's future is `Send`.
#[derive(Debug)]
pub struct SqlxTransaction(sqlx::Transaction<'static, Postgres>);

impl Deref for SqlxTransaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl DerefMut for SqlxTransaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}

impl Connection for SqlxTransaction {
    async fn rows(
        &mut self,
        statement: &'static str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, DatabaseError> {
        rows(self, statement, parameters).await
    }
}

impl Transaction for SqlxTransaction {
    async fn commit(self) -> Result<(), DatabaseError> {
        self.0.commit().await.map_err(of)
    }

    async fn rollback(self) -> Result<(), DatabaseError> {
        self.0.rollback().await.map_err(of)
    }
}

impl Connection for PgConnection {
    async fn rows(
        &mut self,
        statement: &'static str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, DatabaseError> {
        rows(self, statement, parameters).await
    }
}

impl Database for PgPool {
    type Transaction = SqlxTransaction;
    type Own = PgConnection;

    fn id(&self) -> usize {
        // It is shared by all clones of the pool, and stays where it is.
        std::ptr::from_ref(self.options()).addr()
    }

    async fn begin(
        &self,
        isolation: Option<Isolation>,
    ) -> Result<Self::Transaction, DatabaseError> {
        self.begin_with(begin(isolation)).await.map(SqlxTransaction).map_err(of)
    }

    async fn connect(&self) -> Result<PgConnection, DatabaseError> {
        let options = self.connect_options();
        PgConnection::connect_with(&options).await.map_err(of)
    }
}

/// Sent unnamed, which leaves a PgBouncer nothing to remember.
async fn rows(
    connection: &mut PgConnection,
    statement: &'static str,
    parameters: &[Parameter<'_>],
) -> Result<Vec<Row>, DatabaseError> {
    let mut query: Query<'_, Postgres, PgArguments> = sqlx::query(statement).persistent(false);
    for parameter in parameters {
        query = match parameter {
            Parameter::Text(text) => query.bind(text.as_deref()),
            Parameter::Bytes(bytes) => query.bind(bytes.as_ref()),
        };
    }
    let found = query.fetch_all(connection).await.map_err(of)?;
    found.iter().map(|row| (0..row.len()).map(|column| cell(row, column)).collect()).collect()
}

fn cell(row: &sqlx::postgres::PgRow, column: usize) -> Result<Cell, DatabaseError> {
    let is_bytes =
        row.columns().get(column).is_some_and(|column| column.type_info().name() == "BYTEA");
    let found = if is_bytes {
        row.try_get::<Option<Vec<u8>>, _>(column)
            .map(|bytes| bytes.map_or(Cell::Text(None), Cell::Bytes))
    } else {
        row.try_get(column).map(Cell::Text)
    };
    found.map_err(of)
}

fn of(error: sqlx::Error) -> DatabaseError {
    let sqlstate = code(&error).map(str::to_owned);
    DatabaseError { sqlstate, is_lost: is_lost_by(&error), source: error.into() }
}

fn code(error: &sqlx::Error) -> Option<&str> {
    // The driver's own type gives it without a copy.
    error
        .as_database_error()?
        .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
        .map(sqlx::postgres::PgDatabaseError::code)
}

fn is_lost_by(error: &sqlx::Error) -> bool {
    matches!(
        error,
        sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
    )
}

pub(crate) fn state_of<'a>(error: &'a (dyn Error + 'static)) -> Option<State<'a>> {
    let found = error.downcast_ref::<sqlx::Error>()?;
    Some(State { sqlstate: code(found), is_lost: is_lost_by(found) })
}
