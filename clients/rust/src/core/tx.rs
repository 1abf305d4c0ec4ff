//! The handle of the transaction that holds a claim.

use std::{
    fmt,
    future::Future,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use super::{database::DatabaseError, error::Error};

/// The transaction that the running handler's claim is held by. It ends when the handler has returned, also for clones of it that were kept: a
/// statement that was forgotten must not run in the next caller's transaction.
///
/// `C` is the driver's own: [`PgTx`](crate::PgTx) for tokio-postgres, [`SqlxTx`](crate::SqlxTx) for sqlx.
pub struct Tx<C> {
    inner: Arc<Mutex<Option<C>>>,
}

impl<C> Clone for Tx<C> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<C> fmt::Debug for Tx<C> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("Tx")
    }
}

impl<C> Tx<C> {
    pub(crate) fn open(transaction: C) -> Self {
        Self { inner: Arc::new(Mutex::new(Some(transaction))) }
    }

    /// Ends it for all clones.
    pub(crate) async fn close(&self) -> Option<C> {
        self.inner.lock().await.take()
    }

    /// The driver's connection, for one statement or several. [`Error::Ended`] once the handler has returned.
    pub async fn lock(&self) -> Result<TxGuard<'_, C>, Error> {
        MutexGuard::try_map(self.inner.lock().await, Option::as_mut)
            .map(TxGuard)
            .map_err(|_| Error::Ended)
    }
}

/// The connection of a [`Tx`], locked.
pub struct TxGuard<'a, C>(MappedMutexGuard<'a, C>);

impl<C> Deref for TxGuard<'_, C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.0
    }
}

impl<C> DerefMut for TxGuard<'_, C> {
    fn deref_mut(&mut self) -> &mut C {
        &mut self.0
    }
}

impl<C> fmt::Debug for TxGuard<'_, C> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("TxGuard")
    }
}

tokio::task_local! {
    /// The pool of which the running handler holds a connection.
    static HELD: usize;
}

/// Runs a handler that holds a connection of a pool.
pub(crate) async fn holding<F: Future>(pool: usize, handler: F) -> F::Output {
    HELD.scope(pool, handler).await
}

/// A second connection while the first is held: with every connection of the pool held like that, all wait for each other.
pub(crate) fn refuse_nested(pool: usize) -> Result<(), Error> {
    if HELD.try_with(|held| *held == pool).unwrap_or(false) { Err(Error::Nested) } else { Ok(()) }
}

/// An error as one of a lost connection, for what could not be rolled back because of that.
pub(crate) fn or_lost(error: Error, rolled_back: Result<(), DatabaseError>) -> Error {
    match rolled_back {
        Err(cause) if cause.is_lost() => Error::Database(cause),
        _ => error,
    }
}
