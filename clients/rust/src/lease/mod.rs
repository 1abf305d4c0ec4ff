//! A claim that outlives its transaction, for work outside of the database: no connection is held while the handler runs.

mod heart;
pub(crate) mod held;

use std::future::Future;

use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use crate::core::{
    call::{Answer, Answered, Call, Claimed, IntoAnswer, Unscoped, settings},
    database::{Connection, Database, DatabaseError, Parameter, Row, Transaction},
    error::{BoxError, Error},
    once::{claim, finish},
    retry::{Budget, Limits, Tried},
    sql::{RELEASE, REPLAY},
    tx::{or_lost, refuse_nested},
};
use held::{Held, Identity};

/// Work outside of the database, done once for a key as far as that can be.
///
/// The claim is committed before the handler runs. A heartbeat on a connection of its own extends the lease every third of its length. A handler
/// that fails leaves the lease to lapse, because the work may have been done; [`Held::release`] is for when it was not.
///
/// That connection is made from the pool's configuration, and no hook of the pool is called for it (`post_create` of deadpool, `after_connect` of
/// sqlx): what it needs, such as `search_path` or a role, belongs into the configuration.
#[derive(Clone, Debug)]
#[must_use]
pub struct Lease {
    call: Call,
    cancel: bool,
}

impl Lease {
    /// Of an operation, and a key within a scope that is said next.
    pub fn new(operation: impl Into<String>, key: impl Into<String>) -> Unscoped<Self> {
        Unscoped::new(Call::new(operation.into(), key.into()), |call| Self { call, cancel: false })
    }

    settings!();

    /// How long a claim lasts without a heartbeat; 30 seconds unless given.
    pub fn lease(mut self, lease: std::time::Duration) -> Self {
        self.call.lease = lease;
        self
    }

    /// Drops the handler's future when the lease is lost, instead of only telling it by [`Held::lost`].
    pub fn cancel(mut self) -> Self {
        self.cancel = true;
        self
    }

    /// Does the work. When the lease is lost nothing is stored, and this is [`Error::LeaseLost`].
    pub async fn run<D, F, Fut, A>(self, pool: &D, handler: F) -> Result<Answered<A::Value>, Error>
    where
        D: Database,
        F: FnOnce(Held) -> Fut + Send,
        Fut: Future<Output = Result<A, BoxError>> + Send,
        A: IntoAnswer,
        A::Value: DeserializeOwned,
    {
        refuse_nested(pool.id())?;
        let call = &self.call;
        let (claimed, since) = take(pool, call).await?;
        call.observed("lease", &claimed);
        let fence = match (claimed.outcome.as_str(), claimed.fence) {
            ("claimed", Some(fence)) => fence,
            ("replay", _) => return claimed.replay(),
            _ => return Err(claimed.error()),
        };
        let identity = Identity {
            operation: call.operation.clone(),
            key: call.key.clone(),
            scope: call.scope.clone(),
        };
        let held = Held::new(
            pool,
            call.limits,
            identity,
            fence,
            claimed.attempt.unwrap_or(1),
            claimed.checkpoint,
        );
        let beating = heart::keep_alive(pool, &held, call.lease, since);
        let work = handler(held.clone());
        let made = if self.cancel {
            tokio::select! {
                made = work => made,
                () = held.lost().cancelled() => return Err(Error::LeaseLost),
            }
        } else {
            work.await
        };
        if held.lost().is_cancelled() {
            return Err(Error::LeaseLost);
        }
        let answer = made.map_err(Error::Handler)?.into_answer();
        let stored = store(pool, call, &answer, fence).await;
        drop(beating);
        stored
    }
}

/// Claims the key and commits that. The attempt's own id recognises it if the answer to COMMIT was lost.
async fn take<D: Database>(pool: &D, call: &Call) -> Result<(Claimed, Instant), Error> {
    let attempt_id = uuid::Uuid::new_v4().to_string();
    let mut budget = Budget::new(call.limits);
    loop {
        let since = Instant::now();
        let tried = async {
            let mut transaction = pool.begin(None).await?;
            let claimed = claim(&mut transaction, call, Some(&attempt_id)).await;
            let claimed = ended(transaction, claimed).await?;
            Ok(if claimed.outcome == "in_progress" {
                Tried::Busy(Ok((claimed, since)))
            } else {
                Tried::Done((claimed, since))
            })
        };
        if let Some(settled) = budget.settle(tried.await).await {
            return settled;
        }
    }
}

async fn store<D: Database, T>(
    pool: &D,
    call: &Call,
    answer: &Answer<T>,
    fence: i64,
) -> Result<Answered<T>, Error>
where
    T: Serialize + DeserializeOwned + Send,
{
    let mut budget = Budget::new(call.limits);
    loop {
        let tried = async {
            let mut transaction = pool.begin(None).await?;
            let stored = finish(&mut transaction, call, answer, Some(fence)).await;
            match ended(transaction, stored).await {
                Err(error)
                    if budget.before > 0 && matches!(error.sqlstate(), Some("ID003" | "ID007")) =>
                {
                    Ok(Tried::Done(stored_before(pool, call, fence).await?.ok_or(error)?))
                }
                stored => stored.map(Tried::Done),
            }
        };
        let tried = tried.await;
        if let Some(settled) = budget.settle(tried).await {
            return settled;
        }
    }
}

/// What an earlier try has stored, whose answer to COMMIT was lost.
async fn stored_before<D: Database, T: DeserializeOwned>(
    pool: &D,
    call: &Call,
    fence: i64,
) -> Result<Option<Answered<T>>, Error> {
    let parameters =
        [call.operation.as_str().into(), call.key.as_str().into(), call.scope.as_str().into()];
    let rows: Vec<Row> = once(pool, REPLAY, &parameters).await?;
    let found = Claimed::of(&rows)?;
    if found.outcome != "replay" || found.fence != Some(fence) {
        return Ok(None);
    }
    Ok(Some(Answered { replayed: false, ..found.replay()? }))
}

/// Commits what went well, and rolls back what did not.
pub(crate) async fn ended<T>(
    transaction: impl Transaction,
    done: Result<T, Error>,
) -> Result<T, Error> {
    match done {
        Ok(done) => transaction.commit().await.map(|()| done).map_err(Error::from),
        Err(error) => Err(or_lost(error, transaction.rollback().await)),
    }
}

/// One statement in a transaction of its own.
async fn once<D: Database>(
    pool: &D,
    statement: &'static str,
    parameters: &[Parameter<'_>],
) -> Result<Vec<Row>, Error> {
    let mut transaction = pool.begin(None).await?;
    let rows = transaction.rows(statement, parameters).await.map_err(Error::from);
    ended(transaction, rows).await
}

/// One statement in a transaction of its own, tried again.
pub(crate) async fn persistently<D: Database>(
    pool: &D,
    limits: Limits,
    statement: &'static str,
    parameters: &[Parameter<'_>],
) -> Result<Vec<Row>, Error> {
    let mut budget = Budget::new(limits);
    loop {
        let tried = once(pool, statement, parameters).await.map(Tried::Done);
        if let Some(settled) = budget.settle(tried).await {
            return settled;
        }
    }
}

/// Gives a key back. A try whose COMMIT broke may have done it: then the key is free, or already another attempt's.
pub(crate) async fn give_back<D: Database>(
    pool: &D,
    limits: Limits,
    parameters: &[Parameter<'_>],
) -> Result<(), Error> {
    let mut budget = Budget::new(limits);
    let mut is_in_doubt = false;
    loop {
        let tried = async {
            let mut transaction = pool.begin(None).await?;
            match transaction.rows(RELEASE, parameters).await {
                Ok(_) => {
                    let committed = transaction.commit().await;
                    is_in_doubt |= committed.as_ref().is_err_and(DatabaseError::is_lost);
                    Ok(committed?)
                }
                Err(cause) => {
                    let rolled_back = transaction.rollback().await;
                    if is_in_doubt && matches!(cause.sqlstate(), Some("ID003" | "ID007")) {
                        return Ok(());
                    }
                    Err(or_lost(cause.into(), rolled_back))
                }
            }
        };
        let tried = tried.await.map(Tried::Done);
        if let Some(settled) = budget.settle(tried).await {
            return settled;
        }
    }
}

#[cfg(feature = "tower")]
pub(crate) use heart::keep_alive;
