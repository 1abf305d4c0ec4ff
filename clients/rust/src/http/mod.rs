//! One HTTP request under an idempotency key, for any server that speaks tower: claim, handler, complete, COMMIT, and only then the first byte.

mod body;
mod claim;
mod exchange;
mod handler;
mod problem;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, request::Parts};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::core::{
    call::{LEASE, Observe},
    database::{Database, Isolation},
    error::BoxError,
    retry::Limits,
};
pub use body::AnswerBody;
pub use handler::with_error;
pub use problem::Cause;

/// The header of the key.
pub const HEADER: &str = "idempotency-key";
const MEBIBYTE: usize = 1 << 20;

/// What holds the claim while the handler runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The transaction that the handler finds in the request's extensions as a [`Tx`](crate::Tx).
    #[default]
    Transaction,
    /// A lease, [`Held`](crate::Held) in the extensions: for handlers that call out. No connection is kept during the work.
    Lease,
}

type OfRequest<T> = Arc<dyn Fn(&Parts) -> T + Send + Sync>;
type Store = Arc<dyn Fn(StatusCode, &HeaderMap) -> bool + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Settings {
    operation: OfRequest<String>,
    scope: OfRequest<Option<String>>,
    required: OfRequest<bool>,
    store: Option<Store>,
    methods: Vec<Method>,
    mode: Mode,
    lease: Duration,
    limits: Limits,
    isolation: Option<Isolation>,
    max_request_bytes: usize,
    max_response_bytes: usize,
    observe: Option<Observe>,
}

/// Answers a repeated request with the first one's answer. Put it inside of authentication, so that a replay is authorised anew.
///
/// The handler may run again, in a new transaction, after a serialization failure, a deadlock or a lost connection; see [`with_error`]. A client that
/// disconnects does not stop it.
#[derive(Clone)]
pub struct IdempotencyLayer<D> {
    pool: D,
    settings: Arc<Settings>,
}

impl<D> fmt::Debug for IdempotencyLayer<D> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("IdempotencyLayer")
            .field("mode", &self.settings.mode)
            .finish_non_exhaustive()
    }
}

/// A scope for those who have one tenant.
pub fn one_tenant(_: &Parts) -> Option<String> {
    Some(String::new())
}

impl<D: Database> IdempotencyLayer<D> {
    /// `operation` is what happens once, such as the template of the route; never the raw path. `scope` says whose key it is, from what authentication,
    /// outside of this, has put into the request's extensions. A request of which it is `None` is answered 500; [`one_tenant`] says that there is one.
    pub fn new(
        pool: D,
        operation: impl Into<String>,
        scope: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let operation = operation.into();
        let settings = Settings {
            operation: Arc::new(move |_| operation.clone()),
            scope: Arc::new(scope),
            required: Arc::new(|_| false),
            store: None,
            methods: vec![Method::POST, Method::PATCH],
            mode: Mode::Transaction,
            lease: LEASE,
            limits: Limits::default(),
            isolation: None,
            max_request_bytes: MEBIBYTE,
            max_response_bytes: MEBIBYTE,
            observe: None,
        };
        Self { pool, settings: Arc::new(settings) }
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.settings));
        self
    }

    /// The operation of a request, where it is not the same for all: of axum's `MatchedPath`, for example.
    pub fn operation_of(
        self,
        operation: impl Fn(&Parts) -> String + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings| settings.operation = Arc::new(operation))
    }

    /// Refuses a request without a key with 400. Else it passes through, outside of any transaction.
    pub fn required(self, required: bool) -> Self {
        self.required_of(move |_| required)
    }

    /// Refuses some requests without a key.
    pub fn required_of(self, required: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.with(|settings| settings.required = Arc::new(required))
    }

    /// What holds the claim.
    pub fn mode(self, mode: Mode) -> Self {
        self.with(|settings| settings.mode = mode)
    }

    /// How long a lease lasts without a heartbeat; 30 seconds unless given.
    pub fn lease(self, lease: Duration) -> Self {
        self.with(|settings| settings.lease = lease)
    }

    /// The isolation level of the transaction.
    pub fn isolation(self, isolation: Isolation) -> Self {
        self.with(|settings| settings.isolation = Some(isolation))
    }

    /// How long to wait for another attempt that holds the key, before the answer is 409; 2 seconds unless given. No connection is held meanwhile.
    pub fn wait(self, wait: Duration) -> Self {
        self.with(|settings| settings.limits.wait = wait)
    }

    /// How often to run; 5 unless given.
    pub fn tries(self, tries: u32) -> Self {
        self.with(|settings| settings.limits.tries = tries)
    }

    /// After which time no further try begins; 30 seconds unless given.
    pub fn deadline(self, deadline: Duration) -> Self {
        self.with(|settings| settings.limits.deadline = deadline)
    }

    /// Which methods this is about; POST and PATCH unless given.
    pub fn methods(self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.with(|settings| settings.methods = methods.into_iter().collect())
    }

    /// Bytes of a request's body that are read; a longer one is answered 413. 1 MiB unless given.
    pub fn max_request_bytes(self, bytes: usize) -> Self {
        self.with(|settings| settings.max_request_bytes = bytes)
    }

    /// Bytes of an answer that are kept back until COMMIT; a longer one is completed without its body and streamed. The operation's
    /// `max_response_bytes` may not be larger. 1 MiB unless given.
    pub fn max_response_bytes(self, bytes: usize) -> Self {
        self.with(|settings| settings.max_response_bytes = bytes)
    }

    /// False for an answer that is not to be stored: what the handler wrote is rolled back, and the next attempt runs.
    pub fn store(
        self,
        store: impl Fn(StatusCode, &HeaderMap) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings| settings.store = Some(Arc::new(store)))
    }

    /// Is told what became of each request.
    pub fn observe(self, observe: impl Fn(&crate::Event) + Send + Sync + 'static) -> Self {
        self.with(|settings| settings.observe = Some(Arc::new(observe)))
    }
}

impl<S, D: Clone> tower_layer::Layer<S> for IdempotencyLayer<D> {
    type Service = Idempotency<S, D>;

    fn layer(&self, inner: S) -> Self::Service {
        Idempotency { inner, pool: self.pool.clone(), settings: Arc::clone(&self.settings) }
    }
}

/// The service of an [`IdempotencyLayer`].
#[derive(Clone)]
pub struct Idempotency<S, D> {
    inner: S,
    pool: D,
    settings: Arc<Settings>,
}

impl<S: fmt::Debug, D> fmt::Debug for Idempotency<S, D> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Idempotency").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, D, B, R> tower_service::Service<Request<B>> for Idempotency<S, D>
where
    D: Database,
    S: tower_service::Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Body + From<Bytes> + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<AnswerBody<R>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let clone = self.inner.clone();
        // The one that is ready.
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let (pool, settings) = (self.pool.clone(), Arc::clone(&self.settings));
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let applies = settings.methods.contains(&parts.method);
            let key = claim::key_header(&parts.headers);
            if !applies || (key.is_none() && !(settings.required)(&parts)) {
                return Ok(inner
                    .call(Request::from_parts(parts, body))
                    .await?
                    .map(AnswerBody::through));
            }
            let body = match Limited::new(body, settings.max_request_bytes).collect().await {
                Ok(body) => body.to_bytes(),
                Err(error) if error.is::<LengthLimitError>() => {
                    return Ok(problem::too_large(settings.max_request_bytes));
                }
                Err(_) => return Ok(problem::broken()),
            };
            let asked = match exchange::Asked::new(parts, body, key, &settings) {
                Ok(asked) => asked,
                Err(error) => return Ok(problem::of(error)),
            };
            // A client that disconnects ends the server's task, and not the work.
            match tokio::spawn(exchange::run(pool, settings, inner, asked)).await {
                Ok(answered) => answered,
                Err(ended) => match ended.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => Ok(problem::unavailable()),
                },
            }
        })
    }
}
