//! For tests of what calls this: a scope that no other test has, duplicates, and a transaction that is never committed.

use std::future::Future;

use tokio::task::JoinSet;

use crate::core::{
    database::{Connection, Database, Transaction},
    error::{BoxError, Error},
    sql::CHECK,
    tx::Tx,
};

/// A scope that no other test has.
pub fn fresh_scope() -> String {
    format!("test-{}", uuid::Uuid::new_v4())
}

/// What a client does that loses patience: `times` calls at once, each in a task of its own.
pub async fn duplicates<F, Fut>(times: usize, mut call: F) -> Vec<Fut::Output>
where
    F: FnMut(usize) -> Fut,
    Fut: Future + Send + 'static,
    Fut::Output: Send + 'static,
{
    let mut calls = JoinSet::new();
    for number in 0..times {
        calls.spawn(call(number));
    }
    calls.join_all().await
}

/// Runs a test in a transaction that is rolled back. Fails with `ID009` if a claim is still open at its end, as COMMIT would.
pub async fn rolled_back<D, F, Fut, T>(pool: &D, test: F) -> Result<T, Error>
where
    D: Database,
    F: FnOnce(Tx<D::Transaction>, String) -> Fut,
    Fut: Future<Output = Result<T, BoxError>>,
{
    let tx = Tx::open(pool.begin(None).await?);
    let tested = test(tx.clone(), fresh_scope()).await.map_err(Error::Handler);
    let mut transaction = tx.close().await.ok_or(Error::Ended)?;
    let checked =
        if tested.is_ok() { transaction.rows(CHECK, &[]).await.map(drop) } else { Ok(()) };
    transaction.rollback().await?;
    checked?;
    tested
}
