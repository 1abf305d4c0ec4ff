//! The application of clients/conformance, on axum. MODE (transaction or lease), PORT and TRIES, a file, are in the environment, and PGHOST and its like.

use std::{
    collections::HashMap,
    error::Error,
    fs::OpenOptions,
    io::Write,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Query, State},
    http::{HeaderMap, StatusCode, Uri, request::Parts},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use deadpool_postgres::{Config, Pool, Runtime};
use pg_idempotent_client::{IdempotencyLayer, Mode, PgTx, axum::Failed};
use tokio::{
    net::TcpListener,
    sync::{
        Semaphore,
        mpsc::{Receiver, channel},
    },
    time::timeout,
};
use tokio_postgres::{NoTls, types::Type};

type Asked = Query<HashMap<String, String>>;

/// A permit is there once a handler is at the gate, and once it is open.
#[derive(Clone)]
struct Gate {
    entered: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

#[derive(Clone)]
struct App {
    pool: Pool,
    gates: Arc<Mutex<HashMap<String, Gate>>>,
}

impl App {
    fn gate(&self, asked: &Asked) -> Gate {
        let name = asked.get("gate").cloned().unwrap_or_default();
        let closed =
            || Gate { entered: Arc::new(Semaphore::new(0)), open: Arc::new(Semaphore::new(0)) };
        self.gates
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(name)
            .or_insert_with(closed)
            .clone()
    }
}

/// True as soon as it is so, false after 30 seconds.
async fn passes(gate: &Semaphore) -> bool {
    match timeout(Duration::from_secs(30), gate.acquire()).await {
        Ok(Ok(permit)) => {
            drop(permit);
            true
        }
        _ => false,
    }
}

async fn effect(app: &App, tx: Option<PgTx>, headers: &HeaderMap) -> Result<i64, Failed> {
    let insert = "INSERT INTO conformance_effect (\"case\") VALUES ($1) RETURNING id";
    let case = headers.get("x-case").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let row = match tx {
        Some(tx) => tx.lock().await?.query_typed_one(insert, &[(&case, Type::TEXT)]).await?,
        None => app.pool.get().await?.query_typed_one(insert, &[(&case, Type::TEXT)]).await?,
    };
    Ok(row.get(0))
}

fn paid(id: i64) -> Response {
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("location", format!("/pay/{id}")),
        ("etag", format!("\"{id}\"")),
        ("set-cookie", format!("session={id}")),
        ("x-request-id", id.to_string()),
    ];
    (StatusCode::CREATED, headers, format!("{{\"payment\": {id}}}")).into_response()
}

async fn pay(
    State(app): State<App>,
    tx: Option<PgTx>,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    Ok(paid(effect(&app, tx, &headers).await?))
}

async fn echo(
    State(app): State<App>,
    tx: Option<PgTx>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failed> {
    effect(&app, tx, &headers).await?;
    let kind = headers
        .get("content-type")
        .and_then(|value| value.to_str().ok())
        .unwrap_or("application/octet-stream");
    Ok(([("content-type", kind)], body).into_response())
}

async fn status(
    State(app): State<App>,
    tx: Option<PgTx>,
    asked: Asked,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    let id = effect(&app, tx, &headers).await?;
    let status: StatusCode = number::<u16>(&asked, "code").try_into()?;
    let headers = [("content-type", "application/json".to_owned()), ("etag", format!("\"{id}\""))];
    let body = if matches!(status.as_u16(), 204 | 304) {
        String::new()
    } else {
        format!("{{\"effect\": {id}}}")
    };
    let mut response = (status, headers, body).into_response();
    if matches!(status.as_u16(), 429 | 503) {
        response.headers_mut().insert("retry-after", 1.into());
    }
    Ok(response)
}

async fn large(
    State(app): State<App>,
    tx: Option<PgTx>,
    asked: Asked,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    let id = effect(&app, tx, &headers).await?;
    Ok((
        [("content-type", "text/plain".to_owned()), ("etag", format!("\"{id}\""))],
        "x".repeat(number(&asked, "bytes")),
    )
        .into_response())
}

/// A body of what comes out of a channel.
struct Chunks(Receiver<String>);

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|chunk| Some(Ok(http_body::Frame::data(chunk?.into()))))
    }
}

fn events(app: &App, id: i64, asked: &Asked) -> Response {
    let (into, chunks) = channel(1);
    let gate = asked.contains_key("gate").then(|| app.gate(asked));
    let count: usize = number(asked, "chunks");
    tokio::spawn(async move {
        for _ in 0..count {
            if into.send(format!("data: {id}\n\n")).await.is_err() {
                return;
            }
            if let Some(gate) = &gate {
                gate.entered.add_permits(1);
                passes(&gate.open).await;
            }
        }
    });
    let headers = [("content-type", "text/event-stream".to_owned()), ("etag", format!("\"{id}\""))];
    (headers, Body::new(Chunks(chunks))).into_response()
}

async fn stream(
    State(app): State<App>,
    tx: Option<PgTx>,
    asked: Asked,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    let id = effect(&app, tx, &headers).await?;
    Ok(events(&app, id, &asked))
}

/// Inserts what only COMMIT refuses.
async fn deferred(
    State(app): State<App>,
    tx: PgTx,
    asked: Asked,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    tx.batch_execute(
        "CREATE TEMP TABLE deferred (id int UNIQUE DEFERRABLE INITIALLY DEFERRED) ON COMMIT DROP; \
         INSERT INTO deferred VALUES (1), (1)",
    )
    .await?;
    let id = effect(&app, Some(tx), &headers).await?;
    Ok(if asked.contains_key("chunks") { events(&app, id, &asked) } else { paid(id) })
}

async fn raise(
    State(app): State<App>,
    tx: Option<PgTx>,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    effect(&app, tx, &headers).await?;
    Err("raised".into())
}

/// Whether this try of the key is one of the first `times`. A file outlives the process.
fn is_among_first(uri: &Uri, asked: &Asked, headers: &HeaderMap) -> Result<bool, Failed> {
    let what = format!("{} {:?}\n", uri.path(), headers.get("idempotency-key"));
    let name = std::env::var("TRIES")?;
    OpenOptions::new().create(true).append(true).open(&name)?.write_all(what.as_bytes())?;
    let tried =
        std::fs::read_to_string(&name)?.lines().filter(|line| *line == what.trim_end()).count();
    Ok(tried <= number(asked, "times"))
}

async fn conflict(
    State(app): State<App>,
    tx: Option<PgTx>,
    asked: Asked,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    let id = effect(&app, tx.clone(), &headers).await?;
    if is_among_first(&uri, &asked, &headers)?
        && let Some(tx) = tx
    {
        tx.batch_execute("DO $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = '40001'; END $$")
            .await?;
    }
    Ok(paid(id))
}

async fn crash(
    State(app): State<App>,
    tx: Option<PgTx>,
    asked: Asked,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    let id = effect(&app, tx, &headers).await?;
    if is_among_first(&uri, &asked, &headers)? {
        std::process::exit(70);
    }
    Ok(paid(id))
}

async fn held(
    State(app): State<App>,
    tx: Option<PgTx>,
    asked: Asked,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    let id = effect(&app, tx, &headers).await?;
    let gate = app.gate(&asked);
    gate.entered.add_permits(1);
    passes(&gate.open).await;
    Ok(paid(id))
}

async fn gate_entered(State(app): State<App>, asked: Asked) -> StatusCode {
    if passes(&app.gate(&asked).entered).await {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::GATEWAY_TIMEOUT
    }
}

async fn gate_open(State(app): State<App>, asked: Asked) -> StatusCode {
    app.gate(&asked).open.add_permits(1);
    StatusCode::NO_CONTENT
}

async fn effects(State(app): State<App>, asked: Asked) -> Result<Response, Failed> {
    let count = "SELECT count(*) FROM conformance_effect WHERE \"case\" = $1";
    let row =
        app.pool.get().await?.query_typed_one(count, &[(&asked.get("case"), Type::TEXT)]).await?;
    Ok(([("content-type", "application/json")], row.get::<_, i64>(0).to_string()).into_response())
}

fn number<N: std::str::FromStr + Default>(asked: &Asked, name: &str) -> N {
    asked.get(name).and_then(|value| value.parse().ok()).unwrap_or_default()
}

fn tenant(request: &Parts) -> Option<String> {
    let Some(tenant) = request.headers.get("x-tenant") else { return Some(String::new()) };
    tenant.to_str().ok().map(str::to_owned)
}

async fn prepare(pool: &Pool) -> Result<(), Box<dyn Error>> {
    let statements = "
        BEGIN;
        SELECT pg_advisory_xact_lock(20);
        CREATE TABLE IF NOT EXISTS conformance_effect (id bigint GENERATED ALWAYS AS IDENTITY, \"case\" text NOT NULL);
        SELECT name FROM idempotent_operation('conformance', max_response_bytes => 100000);
        COMMIT";
    Ok(pool.get().await?.batch_execute(statements).await?)
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut config = Config::new();
    config.host = Some(variable("PGHOST"));
    config.port = variable("PGPORT").parse().ok();
    config.user = Some("postgres".to_owned());
    config.dbname = Some(variable("PGDATABASE"));
    let pool = config.create_pool(Some(Runtime::Tokio1), NoTls)?;
    prepare(&pool).await?;
    let mode = if variable("MODE") == "lease" { Mode::Lease } else { Mode::Transaction };
    let idempotent = IdempotencyLayer::new(pool.clone(), "conformance", tenant)
        .required_of(|request| request.uri.path() != "/optional")
        .mode(mode)
        .wait(Duration::from_millis(200))
        .max_response_bytes(100_000);
    let app = Router::new()
        .route("/pay", post(pay).patch(pay))
        .route("/refund", post(pay))
        .route("/optional", post(pay))
        .route("/echo", post(echo))
        .route("/status", post(status))
        .route("/large", post(large))
        .route("/stream", post(stream))
        .route("/deferred", post(deferred))
        .route("/raise", post(raise))
        .route("/conflict", post(conflict))
        .route("/crash", post(crash))
        .route("/held", post(held))
        .layer(idempotent)
        .route("/gate", get(gate_entered).post(gate_open))
        .route("/effects", get(effects))
        .with_state(App { pool, gates: Arc::default() });
    let listener = TcpListener::bind(("127.0.0.1", variable("PORT").parse()?)).await?;
    println!("listening on {}", listener.local_addr()?.port());
    Ok(axum::serve(listener, app).await?)
}
