//! A lease while its handler runs: what the handler knows of it, and can do with it.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use serde::Serialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{give_back, persistently};
use crate::core::{
    database::{Database, Parameter, text},
    error::Error,
    retry::Limits,
    sql::{CHECKPOINT, DERIVE_KEY},
};

#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) operation: String,
    pub(crate) key: String,
    pub(crate) scope: String,
}

type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// The pool, whatever its driver.
trait Ask: Send + Sync {
    fn ask<'a>(
        &'a self,
        statement: &'static str,
        parameters: Vec<Parameter<'a>>,
    ) -> Asked<'a, Option<String>>;

    /// operation, key, scope, fence
    fn give_back<'a>(&'a self, parameters: Vec<Parameter<'a>>) -> Asked<'a, ()>;
}

struct Pooled<D> {
    pool: D,
    limits: Limits,
}

impl<D: Database> Ask for Pooled<D> {
    fn ask<'a>(
        &'a self,
        statement: &'static str,
        parameters: Vec<Parameter<'a>>,
    ) -> Asked<'a, Option<String>> {
        Box::pin(async move {
            let rows = persistently(&self.pool, self.limits, statement, &parameters).await?;
            Ok(rows.first().and_then(|row| text(row, 0)).map(str::to_owned))
        })
    }

    fn give_back<'a>(&'a self, parameters: Vec<Parameter<'a>>) -> Asked<'a, ()> {
        Box::pin(async move { give_back(&self.pool, self.limits, &parameters).await })
    }
}

/// The lease that the running handler holds.
#[derive(Clone)]
pub struct Held {
    inner: Arc<Inner>,
}

struct Inner {
    identity: Identity,
    fence: i64,
    attempt: u32,
    checkpoint: Value,
    lost: CancellationToken,
    database: Box<dyn Ask>,
}

impl fmt::Debug for Held {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Held")
            .field("fence", &self.inner.fence)
            .field("attempt", &self.inner.attempt)
            .finish_non_exhaustive()
    }
}

impl Held {
    pub(crate) fn new<D: Database>(
        pool: &D,
        limits: Limits,
        identity: Identity,
        fence: i64,
        attempt: u32,
        checkpoint: Value,
    ) -> Self {
        let database = Box::new(Pooled { pool: pool.clone(), limits });
        Self {
            inner: Arc::new(Inner {
                identity,
                fence,
                attempt,
                checkpoint,
                lost: CancellationToken::new(),
                database,
            }),
        }
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// Cancelled when the lease is lost: stop, and start nothing else.
    pub fn lost(&self) -> &CancellationToken {
        &self.inner.lost
    }

    /// Grows with every lease, over all keys. Send it along with what is written elsewhere, and let the other side refuse a lower one than it has seen.
    pub fn fence(&self) -> i64 {
        self.inner.fence
    }

    /// Above 1: an earlier lease lapsed, and nobody knows how far its holder came.
    pub fn attempt(&self) -> u32 {
        self.inner.attempt
    }

    /// What an earlier holder left with [`save`](Self::save).
    pub fn checkpoint(&self) -> &Value {
        &self.inner.checkpoint
    }

    /// The key for a call to another system: the same in every attempt.
    pub async fn derive(&self, label: &str) -> Result<String, Error> {
        let Identity { operation, key, scope } = &self.inner.identity;
        let parameters = vec![
            operation.as_str().into(),
            key.as_str().into(),
            label.into(),
            scope.as_str().into(),
        ];
        Ok(self.inner.database.ask(DERIVE_KEY, parameters).await?.unwrap_or_default())
    }

    /// Leaves a note for the attempt that would take over.
    pub async fn save(&self, checkpoint: &(impl Serialize + Sync + ?Sized)) -> Result<(), Error> {
        let Identity { operation, key, scope } = &self.inner.identity;
        let checkpoint = serde_json::to_string(checkpoint)?;
        let parameters = vec![
            operation.as_str().into(),
            key.as_str().into(),
            checkpoint.into(),
            scope.as_str().into(),
            self.inner.fence.to_string().into(),
        ];
        self.inner.database.ask(CHECKPOINT, parameters).await.map(drop)
    }

    /// Gives the key back, so that a retry runs at once: for a handler that fails and knows that nothing was done.
    pub async fn release(&self) -> Result<(), Error> {
        let Identity { operation, key, scope } = &self.inner.identity;
        let parameters = vec![
            operation.as_str().into(),
            key.as_str().into(),
            scope.as_str().into(),
            self.inner.fence.to_string().into(),
        ];
        self.inner.database.give_back(parameters).await
    }
}
