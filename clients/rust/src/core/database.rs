//! What the client asks of a driver: a transaction, and a connection of its own. Where drivers differ, the difference lives in one file
//! each in `drivers`.

use std::{borrow::Cow, error, fmt, future::Future, time::Duration};

use super::error::BoxError;

/// A parameter. Every statement casts what it is sent.
#[derive(Clone, Debug)]
pub enum Parameter<'a> {
    /// Text, or the NULL of any type but bytea.
    Text(Option<Cow<'a, str>>),
    /// A bytea.
    Bytes(Cow<'a, [u8]>),
}

impl<'a> From<&'a str> for Parameter<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Some(text.into()))
    }
}

impl<'a> From<Option<&'a str>> for Parameter<'a> {
    fn from(text: Option<&'a str>) -> Self {
        Self::Text(text.map(Cow::from))
    }
}

impl From<String> for Parameter<'_> {
    fn from(text: String) -> Self {
        Self::Text(Some(text.into()))
    }
}

impl From<Option<String>> for Parameter<'_> {
    fn from(text: Option<String>) -> Self {
        Self::Text(text.map(Cow::from))
    }
}

/// A column of a result: text, unless it is a bytea.
#[derive(Clone, Debug)]
pub enum Cell {
    /// Text, or NULL.
    Text(Option<String>),
    /// A bytea.
    Bytes(Vec<u8>),
}

/// A row of a result.
pub type Row = Vec<Cell>;

pub(crate) fn text(row: &[Cell], column: usize) -> Option<&str> {
    match row.get(column) {
        Some(Cell::Text(found)) => found.as_deref(),
        _ => None,
    }
}

#[cfg(feature = "tower")]
pub(crate) fn bytes(row: &[Cell], column: usize) -> Option<&[u8]> {
    match row.get(column) {
        Some(Cell::Bytes(found)) => Some(found),
        _ => None,
    }
}

pub(crate) fn number<N: std::str::FromStr>(row: &[Cell], column: usize) -> Option<N> {
    text(row, column)?.parse().ok()
}

/// How much a transaction sees of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// `READ COMMITTED`
    ReadCommitted,
    /// `REPEATABLE READ`
    RepeatableRead,
    /// `SERIALIZABLE`
    Serializable,
}

/// `BEGIN` with or without an isolation level.
#[cfg(any(feature = "tokio-postgres", feature = "sqlx"))]
pub(crate) fn begin(isolation: Option<Isolation>) -> &'static str {
    match isolation {
        None => "BEGIN",
        Some(Isolation::ReadCommitted) => "BEGIN ISOLATION LEVEL READ COMMITTED",
        Some(Isolation::RepeatableRead) => "BEGIN ISOLATION LEVEL REPEATABLE READ",
        Some(Isolation::Serializable) => "BEGIN ISOLATION LEVEL SERIALIZABLE",
    }
}

/// Something that statements are sent over.
pub trait Connection: Send + 'static {
    /// Runs one statement of this crate.
    fn rows(
        &mut self,
        statement: &'static str,
        parameters: &[Parameter<'_>],
    ) -> impl Future<Output = Result<Vec<Row>, DatabaseError>> + Send;
}

/// An open transaction on a connection of the pool. When it is dropped it is rolled back: its connection is never lent out with it still open.
pub trait Transaction: Connection + Sized {
    /// `COMMIT`
    fn commit(self) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// `ROLLBACK`
    fn rollback(self) -> impl Future<Output = Result<(), DatabaseError>> + Send;
}

/// A pool of connections: a `deadpool_postgres::Pool` or a `sqlx::PgPool`.
pub trait Database: Clone + Send + Sync + 'static {
    /// A transaction on one of its connections.
    type Transaction: Transaction;
    /// A connection that is not of the pool.
    type Own: Connection;

    /// What tells this pool from any other that is alive.
    fn id(&self) -> usize;

    /// Begins a transaction on a connection of the pool.
    fn begin(
        &self,
        isolation: Option<Isolation>,
    ) -> impl Future<Output = Result<Self::Transaction, DatabaseError>> + Send;

    /// Makes a connection outside of the pool.
    fn connect(&self) -> impl Future<Output = Result<Self::Own, DatabaseError>> + Send;
}

/// What a database or the way to it refused.
#[derive(Debug)]
pub struct DatabaseError {
    pub(crate) source: BoxError,
    pub(crate) sqlstate: Option<String>,
    pub(crate) is_lost: bool,
}

impl DatabaseError {
    /// The SQLSTATE, if it was the server that refused.
    pub fn sqlstate(&self) -> Option<&str> {
        self.sqlstate.as_deref()
    }

    /// Whether the connection could not be had, or broke. What was in its transaction is undone, unless it broke in COMMIT.
    pub fn is_lost(&self) -> bool {
        self.is_lost
    }
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(to)
    }
}

impl error::Error for DatabaseError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(self.source.as_ref())
    }
}

/// A length of time as text that Postgres reads as an interval.
pub(crate) fn interval(length: Duration) -> String {
    format!("{} microseconds", length.as_micros())
}
