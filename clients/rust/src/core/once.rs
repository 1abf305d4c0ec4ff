//! A claim held by the transaction that does the work: claim, work and answer commit together, or not at all.

use std::future::Future;

use serde::{Serialize, de::DeserializeOwned};

use super::{
    call::{Answer, Answered, Call, Claimed, IntoAnswer, Unscoped, settings},
    database::{Connection, Database, Isolation, Transaction, interval, text},
    error::{BoxError, Error},
    retry::{Budget, Tried},
    sql::{CLAIM, COMPLETE, FAIL},
    tx::{Tx, holding, or_lost, refuse_nested},
};

/// Work inside of the database, done once for a key.
///
/// The handler runs again after a serialization failure, a deadlock or a lost connection, also one that is lost during COMMIT, each time in a
/// new transaction. Only one run commits. What it does outside of the database belongs under a [`Lease`](crate::Lease).
///
/// A call does not run without a scope:
///
/// ```compile_fail
/// # async fn example(pool: &deadpool_postgres::Pool) -> Result<(), pg_idempotent_client::Error> {
/// pg_idempotent_client::Once::new("charge", "order-1").run(pool, |tx| async move { Ok(1) }).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Once {
    call: Call,
}

impl Once {
    /// Of an operation, and a key within a scope that is said next.
    pub fn new(operation: impl Into<String>, key: impl Into<String>) -> Unscoped<Self> {
        Unscoped::new(Call::new(operation.into(), key.into()), |call| Self { call })
    }

    settings!();

    /// The isolation level of the transaction.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.call.isolation = Some(isolation);
        self
    }

    /// Does the work; every call gets the same answer.
    pub async fn run<D, F, Fut, A>(
        self,
        pool: &D,
        mut handler: F,
    ) -> Result<Answered<A::Value>, Error>
    where
        D: Database,
        F: FnMut(Tx<D::Transaction>) -> Fut + Send,
        Fut: Future<Output = Result<A, BoxError>> + Send,
        A: IntoAnswer,
        A::Value: DeserializeOwned,
    {
        refuse_nested(pool.id())?;
        let mut budget = Budget::new(self.call.limits);
        loop {
            let tried = self.attempt(pool, &mut handler).await;
            if let Some(settled) = budget.settle(tried).await {
                return settled;
            }
        }
    }

    async fn attempt<D, F, Fut, A>(
        &self,
        pool: &D,
        handler: &mut F,
    ) -> Result<Tried<Answered<A::Value>>, Error>
    where
        D: Database,
        F: FnMut(Tx<D::Transaction>) -> Fut + Send,
        Fut: Future<Output = Result<A, BoxError>> + Send,
        A: IntoAnswer,
        A::Value: DeserializeOwned,
    {
        let tx = Tx::open(pool.begin(self.call.isolation).await?);
        let worked = self.work(pool, &tx, handler).await;
        let transaction = tx.close().await.ok_or(Error::Ended)?;
        match worked {
            Ok(Tried::Done(answered)) if !answered.replayed => {
                transaction.commit().await.map(|()| Tried::Done(answered)).map_err(Error::from)
            }
            // Nothing was written, and what is known does not depend on how this ends.
            Ok(told) => transaction.rollback().await.map(|()| told).map_err(Error::from),
            Err(error) => Err(or_lost(error, transaction.rollback().await)),
        }
    }

    async fn work<D, F, Fut, A>(
        &self,
        pool: &D,
        tx: &Tx<D::Transaction>,
        handler: &mut F,
    ) -> Result<Tried<Answered<A::Value>>, Error>
    where
        D: Database,
        F: FnMut(Tx<D::Transaction>) -> Fut + Send,
        Fut: Future<Output = Result<A, BoxError>> + Send,
        A: IntoAnswer,
        A::Value: DeserializeOwned,
    {
        let claimed = claim(&mut *tx.lock().await?, &self.call, None).await?;
        self.call.observed("transaction", &claimed);
        match claimed.outcome.as_str() {
            "claimed" => {}
            "replay" => return claimed.replay().map(Tried::Done),
            "in_progress" => return Ok(Tried::Busy(Err(claimed.error()))),
            _ => return Err(claimed.error()),
        }
        let answer =
            holding(pool.id(), handler(tx.clone())).await.map_err(Error::Handler)?.into_answer();
        finish(&mut *tx.lock().await?, &self.call, &answer, claimed.fence).await.map(Tried::Done)
    }
}

/// Claims the key, without waiting for another holder. `attempt_id` is for a lease.
pub(crate) async fn claim(
    connection: &mut impl Connection,
    call: &Call,
    attempt_id: Option<&str>,
) -> Result<Claimed, Error> {
    let lease = attempt_id.map(|_| interval(call.lease));
    let parameters = [
        call.operation.as_str().into(),
        call.key.as_str().into(),
        call.request()?.into(),
        call.scope.as_str().into(),
        lease.into(),
        call.first_sent.as_deref().into(),
        attempt_id.into(),
    ];
    Claimed::of(&connection.rows(CLAIM, &parameters).await?)
}

/// Stores the answer, and returns what is stored.
pub(crate) async fn finish<T: Serialize + DeserializeOwned>(
    connection: &mut impl Connection,
    call: &Call,
    answer: &Answer<T>,
    fence: Option<i64>,
) -> Result<Answered<T>, Error> {
    let parameters = [
        call.operation.as_str().into(),
        call.key.as_str().into(),
        serde_json::to_string(&answer.value)?.into(),
        answer.status.map(|status| status.to_string()).into(),
        call.scope.as_str().into(),
        fence.map(|fence| fence.to_string()).into(),
        answer.headers.as_ref().map(ToString::to_string).into(),
        call.ttl.map(interval).into(),
    ];
    let rows = connection.rows(if answer.failed { FAIL } else { COMPLETE }, &parameters).await?;
    let stored = serde_json::from_str(rows.first().and_then(|row| text(row, 0)).unwrap_or("null"))?;
    let headers = answer.headers.clone().unwrap_or_default();
    Ok(Answered {
        answer: stored,
        replayed: false,
        failed: answer.failed,
        status: answer.status,
        headers,
    })
}
