//! A request at work: claim, handler, complete, COMMIT, answer; again after a conflict.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, request::Parts, response::Parts as Head};
use http_body::Body;
use serde_json::Value;
use tokio::time::Instant;
use tower_service::Service;

use super::{
    Mode, Settings,
    body::{AnswerBody, Stored},
    claim::{HttpClaim, claim, complete},
    handler::Handler,
    problem,
};
use crate::{
    core::{
        call::{Claimed, observed},
        database::{Connection, Database, Transaction},
        error::{BoxError, Error},
        retry::{Budget, Tried},
        sql::{RELEASE, REPLAY},
        tx::{Tx, holding, or_lost, refuse_nested},
    },
    lease::{
        ended,
        held::{Held, Identity},
        keep_alive,
    },
};

/// A request that is whole.
pub(crate) struct Asked {
    pub(crate) parts: Parts,
    pub(crate) body: Bytes,
    pub(crate) key_header: Option<String>,
    pub(crate) operation: String,
    pub(crate) scope: String,
    pub(crate) lease: Option<Duration>,
    /// A claim of a lease that is asked again, because the answer to its COMMIT was lost, gets its own lease.
    pub(crate) attempt_id: Option<String>,
}

impl Asked {
    pub(crate) fn new(
        parts: Parts,
        body: Bytes,
        key_header: Option<String>,
        settings: &Settings,
    ) -> Result<Self, Error> {
        let operation = (settings.operation)(&parts);
        // Without one all would share their keys, and be told each other's answers.
        let scope = (settings.scope)(&parts).ok_or(Error::NoScope)?;
        let lease = (settings.mode == Mode::Lease).then_some(settings.lease);
        let attempt_id = lease.map(|_| uuid::Uuid::new_v4().to_string());
        Ok(Self { parts, body, key_header, operation, scope, lease, attempt_id })
    }

    /// Path and query, as sent.
    pub(crate) fn target(&self) -> &str {
        self.parts.uri.path_and_query().map_or("/", |target| target.as_str())
    }

    fn request<B: From<Bytes>>(&self, attempt: impl Clone + Send + Sync + 'static) -> Request<B> {
        let mut request = Request::from_parts(self.parts.clone(), B::from(self.body.clone()));
        request.extensions_mut().insert(attempt);
        request
    }
}

type Answer<R, E> = Result<Response<AnswerBody<R>>, E>;

/// Serves a request until it has an answer.
pub(crate) async fn run<D, S, B, R>(
    pool: D,
    settings: Arc<Settings>,
    inner: S,
    asked: Asked,
) -> Answer<R, S::Error>
where
    D: Database,
    S: Service<Request<B>, Response = Response<R>> + Clone + Send,
    S::Future: Send,
    S::Error: Send,
    B: Body + From<Bytes> + Send,
    R: Body<Data = Bytes> + Send,
    R::Error: Into<BoxError>,
{
    let exchange = Exchange { pool, settings, asked };
    let mut handler = Handler { inner };
    let answered = match exchange.settings.mode {
        Mode::Transaction => exchange.transacted(&mut handler).await,
        Mode::Lease => exchange.leased(&mut handler).await,
    };
    answered.unwrap_or_else(|error| Ok(problem::of(error)))
}

/// A claim with a lease, and what an earlier holder left.
struct Taken {
    claim: HttpClaim,
    attempt: Option<u32>,
    checkpoint: Value,
    since: Instant,
}

struct Exchange<D> {
    pool: D,
    settings: Arc<Settings>,
    asked: Asked,
}

impl<D: Database> Exchange<D> {
    fn observed(&self, mode: &'static str, claim: &HttpClaim, attempt: Option<u32>) {
        observed(
            self.settings.observe.as_ref(),
            &self.asked.operation,
            mode,
            &claim.outcome,
            attempt,
            claim.outcome == "replay",
        );
    }

    /// Whether the answer is stored.
    async fn complete(
        &self,
        connection: &mut impl Connection,
        claim: &HttpClaim,
        head: &Head,
        body: Stored<'_>,
    ) -> Result<bool, Error> {
        let limit = self.settings.max_response_bytes;
        let unkept = (!body.is_whole).then_some(limit + 1);
        let stored = complete(connection, &self.asked, claim, head, body.bytes, unkept).await?;
        if stored && !body.is_whole && !self.record(connection, claim).await?.evicted {
            let why = "the operation's max_response_bytes is above the layer's, so that blanks would be replayed: make them equal";
            return Err(Error::Handler(why.into()));
        }
        Ok(stored)
    }

    /// What the server has of the key.
    async fn record(
        &self,
        connection: &mut impl Connection,
        claim: &HttpClaim,
    ) -> Result<Claimed, Error> {
        let parameters = [
            self.asked.operation.as_str().into(),
            claim.key.as_deref().into(),
            self.asked.scope.as_str().into(),
        ];
        Claimed::of(&connection.rows(REPLAY, &parameters).await?)
    }

    fn is_wanted(&self, head: &Head) -> bool {
        self.settings.store.as_ref().is_none_or(|store| store(head.status, &head.headers))
    }

    async fn transacted<S, B, R>(
        &self,
        handler: &mut Handler<S>,
    ) -> Result<Answer<R, S::Error>, Error>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone + Send,
        S::Future: Send,
        S::Error: Send,
        B: Body + From<Bytes> + Send,
        R: Body<Data = Bytes> + Send,
        R::Error: Into<BoxError>,
    {
        refuse_nested(self.pool.id())?;
        let mut budget = Budget::new(self.settings.limits);
        loop {
            let tried = self.attempt(handler).await;
            if let Some(settled) = budget.settle(tried).await {
                return settled;
            }
        }
    }

    async fn attempt<S, B, R>(
        &self,
        handler: &mut Handler<S>,
    ) -> Result<Tried<Answer<R, S::Error>>, Error>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone + Send,
        S::Future: Send,
        S::Error: Send,
        B: Body + From<Bytes> + Send,
        R: Body<Data = Bytes> + Send,
        R::Error: Into<BoxError>,
    {
        let mut transaction = self.pool.begin(self.settings.isolation).await?;
        let claim = match claim(&mut transaction, &self.asked).await {
            Ok(claim) => claim,
            Err(error) => return Err(or_lost(error, transaction.rollback().await)),
        };
        self.observed("transaction", &claim, None);
        if !claim.run {
            transaction.rollback().await?;
            return Ok(told(claim));
        }
        let tx = Tx::open(transaction);
        let request = self.asked.request(tx.clone());
        let worked =
            holding(self.pool.id(), handler.work(request, self.settings.max_response_bytes)).await;
        let mut transaction = tx.close().await.ok_or(Error::Ended)?;
        let (head, kept) = match worked {
            Ok(Ok(answered)) => answered,
            Ok(Err(error)) => {
                transaction.rollback().await?;
                return Ok(Tried::Done(Err(error)));
            }
            Err(error) => return Err(or_lost(error, transaction.rollback().await)),
        };
        let stored = if claim.key.is_none() {
            // Where the operation is only observed, a request may run whose header names no key: there is nothing to complete.
            let alive = transaction.rows("SELECT", &[]).await;
            alive.map(|_| !head.status.is_server_error()).map_err(Error::from)
        } else if self.is_wanted(&head) {
            self.complete(&mut transaction, &claim, &head, kept.stored()).await
        } else {
            Ok(false)
        };
        let ended = match stored {
            Ok(true) => transaction.commit().await,
            Ok(false) => transaction.rollback().await,
            // The handler has caught an error of a statement and answered with one of its own: nothing of it can be stored, and the next attempt runs.
            Err(error)
                if error.sqlstate() == Some("25P02") && head.status >= StatusCode::BAD_REQUEST =>
            {
                transaction.rollback().await
            }
            Err(error) => return Err(or_lost(error, transaction.rollback().await)),
        };
        ended?;
        Ok(Tried::Done(Ok(Response::from_parts(head, kept.into_body()))))
    }

    async fn leased<S, B, R>(&self, handler: &mut Handler<S>) -> Result<Answer<R, S::Error>, Error>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone + Send,
        S::Future: Send,
        S::Error: Send,
        B: Body + From<Bytes> + Send,
        R: Body<Data = Bytes> + Send,
        R::Error: Into<BoxError>,
    {
        refuse_nested(self.pool.id())?;
        let Taken { claim, attempt, checkpoint, since } = self.take().await?;
        self.observed("lease", &claim, attempt);
        if !claim.run {
            return Ok(Ok(claim.response()));
        }
        let limit = self.settings.max_response_bytes;
        let (Some(key), Some(fence)) = (claim.key.clone(), claim.fence) else {
            // Where the operation is only observed, a request may run whose header names no key.
            let worked = handler.work(self.asked.request(()), limit).await?;
            return Ok(worked.map(|(head, kept)| Response::from_parts(head, kept.into_body())));
        };
        let identity = Identity {
            operation: self.asked.operation.clone(),
            key,
            scope: self.asked.scope.clone(),
        };
        let held = Held::new(
            &self.pool,
            self.settings.limits,
            identity,
            fence,
            attempt.unwrap_or(1),
            checkpoint,
        );
        let beating = keep_alive(&self.pool, &held, self.settings.lease, since);
        // A handler that fails without an answer leaves the lease to lapse: the work may have been done.
        let (head, kept) = match handler.work(self.asked.request(held.clone()), limit).await? {
            Ok(answered) => answered,
            Err(error) => return Ok(Err(error)),
        };
        if held.lost().is_cancelled() {
            return Err(Error::LeaseLost);
        }
        self.store(&claim, &head, kept.stored()).await?;
        drop(beating);
        Ok(Ok(Response::from_parts(head, kept.into_body())))
    }

    /// Claims the key with a lease, and commits that.
    async fn take(&self) -> Result<Taken, Error> {
        let mut budget = Budget::new(self.settings.limits);
        loop {
            let since = Instant::now();
            let tried = async {
                let mut transaction = self.pool.begin(None).await?;
                let taken = self.take_once(&mut transaction, since).await;
                let taken = ended(transaction, taken).await?;
                Ok(if taken.claim.outcome == "in_progress" {
                    Tried::Busy(Ok(taken))
                } else {
                    Tried::Done(taken)
                })
            };
            if let Some(settled) = budget.settle(tried.await).await {
                return settled;
            }
        }
    }

    async fn take_once(
        &self,
        connection: &mut impl Connection,
        since: Instant,
    ) -> Result<Taken, Error> {
        let claim = claim(connection, &self.asked).await?;
        if claim.fence.is_none() {
            return Ok(Taken { claim, attempt: None, checkpoint: Value::Null, since });
        }
        // The claim does not tell of the holders before.
        let Claimed { attempt, checkpoint, .. } = self.record(connection, &claim).await?;
        Ok(Taken { claim, attempt, checkpoint, since })
    }

    /// Stores the answer of a lease, or gives the key back.
    async fn store(&self, claim: &HttpClaim, head: &Head, body: Stored<'_>) -> Result<(), Error> {
        let mut budget = Budget::new(self.settings.limits);
        // What a try has come to, if the answer to its COMMIT was lost.
        let mut is_stored = None;
        loop {
            let tried = async {
                match self.store_once(claim, head, body, &mut is_stored).await {
                    Err(error)
                        if matches!(error.sqlstate(), Some("ID003" | "ID007"))
                            && self.is_done(claim, is_stored).await? =>
                    {
                        Ok(())
                    }
                    tried => tried,
                }
            };
            let tried = tried.await.map(Tried::Done);
            if let Some(settled) = budget.settle(tried).await {
                return settled;
            }
        }
    }

    async fn store_once(
        &self,
        claim: &HttpClaim,
        head: &Head,
        body: Stored<'_>,
        is_stored: &mut Option<bool>,
    ) -> Result<(), Error> {
        let mut transaction = self.pool.begin(None).await?;
        let done = if self.is_wanted(head) {
            self.complete(&mut transaction, claim, head, body).await
        } else {
            self.release(&mut transaction, claim).await
        };
        *is_stored = done.as_ref().ok().copied().or(*is_stored);
        ended(transaction, done).await.map(drop)
    }

    /// Gives the key of a lease back; as an answer, it is none that is stored.
    async fn release(
        &self,
        connection: &mut impl Connection,
        claim: &HttpClaim,
    ) -> Result<bool, Error> {
        let parameters = [
            self.asked.operation.as_str().into(),
            claim.key.as_deref().into(),
            self.asked.scope.as_str().into(),
            claim.fence.map(|fence| fence.to_string()).into(),
        ];
        connection.rows(RELEASE, &parameters).await?;
        Ok(false)
    }

    /// Whether an earlier try has given the key back, or stored the answer that is there.
    async fn is_done(&self, claim: &HttpClaim, is_stored: Option<bool>) -> Result<bool, Error> {
        if is_stored != Some(true) {
            return Ok(is_stored.is_some());
        }
        let mut transaction = self.pool.begin(None).await?;
        let found = self.record(&mut transaction, claim).await;
        let found = ended(transaction, found).await?;
        Ok(found.outcome == "replay" && found.fence == claim.fence)
    }
}

/// What a claim that is none is answered.
fn told<R, E>(claim: HttpClaim) -> Tried<Answer<R, E>> {
    if claim.outcome == "in_progress" {
        Tried::Busy(Ok(Ok(claim.response())))
    } else {
        Tried::Done(Ok(claim.response()))
    }
}
