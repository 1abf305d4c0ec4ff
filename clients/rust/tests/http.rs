//! The layer beyond the scenarios of clients/conformance: what only a program in the same process can stage.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::State,
    http::{Request, Response, StatusCode},
    routing::post,
};
use pg_idempotent_client::{
    Error, Held, IdempotencyLayer, Mode, Tx,
    axum::Failed,
    http::{Cause, one_tenant},
};
use tower_service::Service;

use crate::{
    door::Door,
    server::{At, Driver, Fresh, Result, both, effects, fresh},
};

static DATABASE: Fresh = Fresh::named("rust_http");

both!(
    no_answer_before_commit,
    a_commit_whose_answer_is_lost,
    a_lease_whose_commits_lose_their_answers_is_served,
    a_lost_lease_is_answered_503,
    a_handler_that_takes_over_is_told,
    a_request_without_a_scope_is_refused,
    a_database_that_is_down_is_answered_503,
    an_error_of_the_layer_can_be_seen,
    two_keys_are_none,
    what_is_not_stored_is_rolled_back,
    a_large_request_is_refused,
    a_large_answer_is_streamed_after_commit,
    a_panic_frees_the_key,
    a_caught_error_is_answered_and_not_stored,
    what_names_no_key_runs_where_it_is_observed,
    without_a_key_there_is_no_transaction,
);

type Effect<D> = Tx<<D as pg_idempotent_client::Database>::Transaction>;

fn request(key: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post("/pay").header("idempotency-key", key).body(body.into()).expect("a request")
}

/// An answer, as far as it counts.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    status: u16,
    body: String,
    replayed: bool,
}

async fn send(app: &Router, request: Request<Body>) -> Result<Told> {
    let response: Response<Body> = app.clone().call(request).await?;
    let replayed = response.headers().contains_key("idempotent-replayed");
    let status = response.status().as_u16();
    Ok(Told {
        status,
        body: String::from_utf8(to_bytes(response.into_body(), 10 << 20).await?.to_vec())?,
        replayed,
    })
}

fn told(status: u16, body: &str, replayed: bool) -> Told {
    Told { status, body: body.to_owned(), replayed }
}

fn layer<D: Driver>(pool: D) -> IdempotencyLayer<D> {
    IdempotencyLayer::new(pool, "api", one_tenant).required(true).wait(Duration::from_secs(20))
}

/// An application whose handler has an effect of the key, and answers with its own count of runs.
fn counting<D: Driver>(
    door: Option<Door>,
    is_after: bool,
) -> impl Fn(D) -> (Router, Arc<AtomicU32>) {
    move |pool| {
        let runs = Arc::new(AtomicU32::new(0));
        let door = door.clone();
        let pay = move |State(runs): State<Arc<AtomicU32>>,
                        tx: Effect<D>,
                        headers: axum::http::HeaderMap| async move {
            let key = headers["idempotency-key"].to_str()?.to_owned();
            D::effect(tx, key, 1).await?;
            let run = runs.fetch_add(1, SeqCst);
            if let Some(door) = door.filter(|_| run == 0) {
                if is_after { door.break_after_commit() } else { door.break_before_commit() }
            }
            std::result::Result::<_, Failed>::Ok((StatusCode::CREATED, run.to_string()))
        };
        (
            Router::new().route("/pay", post(pay)).layer(layer(pool)).with_state(Arc::clone(&runs)),
            runs,
        )
    }
}

async fn broken<D: Driver>(is_after: bool) -> Result<Told> {
    let (admin, door, key) = (DATABASE.admin().await, Door::open().await, fresh());
    let pool = D::open(DATABASE.name, At { door: Some(door.port), connections: 2 });
    let (app, _) = counting::<D>(Some(door.clone()), is_after)(pool);
    let answer = send(&app, request(&key, "{}")).await?;
    assert_eq!((door.broken(), effects(&admin, &key).await?), (1, 1));
    Ok(answer)
}

async fn no_answer_before_commit<D: Driver>() -> Result {
    // The first run's answer was made, and never sent.
    assert_eq!(broken::<D>(false).await?, told(201, "1", false));
    Ok(())
}

async fn a_commit_whose_answer_is_lost<D: Driver>() -> Result {
    assert_eq!(broken::<D>(true).await?, told(201, "0", true));
    Ok(())
}

async fn a_lease_whose_commits_lose_their_answers_is_served<D: Driver>() -> Result {
    for (status, is_kept, is_claim) in
        [(201, true, true), (201, true, false), (503, true, false), (201, false, false)]
    {
        DATABASE.admin().await;
        let (door, key, runs) = (Door::open().await, fresh(), Arc::new(AtomicU32::new(0)));
        let pool = D::open(DATABASE.name, At { door: Some(door.port), connections: 2 });
        if is_claim {
            door.break_after_commit();
        }
        let (breaking, counted) = (door.clone(), Arc::clone(&runs));
        let pay = async move || {
            let run = counted.fetch_add(1, SeqCst);
            if run == 0 && !is_claim {
                breaking.break_after_commit();
            }
            (StatusCode::from_u16(status).expect("a status"), run.to_string())
        };
        let layer = layer(pool).mode(Mode::Lease).wait(Duration::ZERO).store(move |_, _| is_kept);
        let app = Router::new().route("/pay", post(pay)).layer(layer);
        assert_eq!(send(&app, request(&key, "{}")).await?, told(status, "0", false));
        let is_stored = status == 201 && is_kept;
        let again = if is_stored { "0" } else { "1" };
        assert_eq!(send(&app, request(&key, "{}")).await?, told(status, again, is_stored));
        assert_eq!(door.broken(), 1);
    }
    Ok(())
}

async fn a_lost_lease_is_answered_503<D: Driver>() -> Result {
    let (pool, key) = (DATABASE.open::<D>(2).await, fresh());
    let pay = async |held: Held| {
        held.release().await?;
        held.lost().cancelled().await;
        std::result::Result::<_, Failed>::Ok("done")
    };
    let app = Router::new()
        .route("/pay", post(pay))
        .layer(layer(pool).mode(Mode::Lease).lease(Duration::from_secs(3)));
    assert_eq!(send(&app, request(&key, "{}")).await?.status, 503);
    Ok(())
}

async fn a_handler_that_takes_over_is_told<D: Driver>() -> Result {
    let (pool, key) = (DATABASE.open::<D>(1).await, fresh());
    let pay = async |held: Held| {
        if held.attempt() == 1 {
            assert!(held.checkpoint().is_null(), "there is no holder before the first");
            held.save("sent").await?;
            panic!("the first run leaves its lease");
        }
        std::result::Result::<_, Failed>::Ok(format!("{} {}", held.attempt(), held.checkpoint()))
    };
    let app = Router::new()
        .route("/pay", post(pay))
        .layer(layer(pool).mode(Mode::Lease).lease(Duration::from_secs(2)));
    let (first, same) = (app.clone(), key.clone());
    assert!(
        tokio::spawn(async move { send(&first, request(&same, "{}")).await.is_ok() })
            .await
            .is_err_and(|ended| ended.is_panic())
    );
    assert_eq!(send(&app, request(&key, "{}")).await?, told(200, "2 \"sent\"", false));
    Ok(())
}

async fn a_request_without_a_scope_is_refused<D: Driver>() -> Result {
    let (pool, key) = (DATABASE.open::<D>(1).await, fresh());
    let runs = Arc::new(AtomicU32::new(0));
    let user = |parts: &axum::http::request::Parts| parts.extensions.get::<String>().cloned();
    let pay = async |State(runs): State<Arc<AtomicU32>>| runs.fetch_add(1, SeqCst).to_string();
    let app = Router::new()
        .route("/pay", post(pay))
        .layer(IdempotencyLayer::new(pool, "api", user))
        .with_state(Arc::clone(&runs));
    let response: Response<Body> = app.clone().call(request(&key, "{}")).await?;
    let cause = response.extensions().get::<Cause>();
    assert!(cause.is_some_and(|cause| matches!(*cause.0, Error::NoScope)), "{cause:?}");
    assert_eq!((response.status().as_u16(), runs.load(SeqCst)), (500, 0));
    let mut of_a_user = request(&key, "{}");
    of_a_user.extensions_mut().insert("ada".to_owned());
    assert_eq!(send(&app, of_a_user).await?, told(200, "0", false));
    Ok(())
}

async fn a_database_that_is_down_is_answered_503<D: Driver>() -> Result {
    DATABASE.admin().await;
    let door = tokio::net::TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
    let pool = D::open(DATABASE.name, At { door: Some(door), connections: 1 });
    let app = Router::new()
        .route("/pay", post(async || "done"))
        .layer(layer(pool).tries(2).deadline(Duration::from_secs(5)));
    let response: Response<Body> = app.clone().call(request(&fresh(), "{}")).await?;
    assert_eq!(
        (response.status().as_u16(), response.headers()["retry-after"].to_str()?),
        (503, "1")
    );
    Ok(())
}

async fn an_error_of_the_layer_can_be_seen<D: Driver>() -> Result {
    let (pool, key) = (DATABASE.open::<D>(1).await, fresh());
    // Less than the operation keeps: what is cut off would be replayed as blanks.
    let app = Router::new()
        .route("/pay", post(async || "x".repeat(2000)))
        .layer(layer(pool).max_response_bytes(1000));
    let response: Response<Body> = app.clone().call(request(&key, "{}")).await?;
    let cause = response
        .extensions()
        .get::<Cause>()
        .map(|cause| std::error::Error::source(&*cause.0).map(ToString::to_string));
    assert_eq!(response.status().as_u16(), 500);
    assert!(cause.flatten().is_some_and(|cause| cause.contains("make them equal")));
    Ok(())
}

async fn two_keys_are_none<D: Driver>() -> Result {
    let (app, runs) = counting::<D>(None, false)(DATABASE.open(1).await);
    let mut twice = request("a", "{}");
    twice.headers_mut().append("idempotency-key", "b".parse()?);
    assert_eq!((send(&app, twice).await?.status, runs.load(SeqCst)), (400, 0));
    Ok(())
}

async fn what_is_not_stored_is_rolled_back<D: Driver>() -> Result {
    let (pool, key) = (DATABASE.open::<D>(1).await, fresh());
    let runs = Arc::new(AtomicU32::new(0));
    let effect_of = key.clone();
    let pay = move |State(runs): State<Arc<AtomicU32>>, tx: Effect<D>| {
        let key = effect_of.clone();
        async move {
            D::effect(tx, key, 1).await?;
            std::result::Result::<_, Failed>::Ok(runs.fetch_add(1, SeqCst).to_string())
        }
    };
    let app = Router::new()
        .route("/pay", post(pay))
        .layer(layer(pool).store(|_, _| false))
        .with_state(runs);
    assert_eq!(send(&app, request(&key, "{}")).await?, told(200, "0", false));
    assert_eq!(send(&app, request(&key, "{}")).await?, told(200, "1", false));
    assert_eq!(effects(&DATABASE.admin().await, &key).await?, 0);
    Ok(())
}

async fn a_large_request_is_refused<D: Driver>() -> Result {
    let (app, runs) = counting::<D>(None, false)(DATABASE.open(1).await);
    assert_eq!(
        (send(&app, request(&fresh(), "x".repeat((1 << 20) + 1))).await?.status, runs.load(SeqCst)),
        (413, 0)
    );
    assert_eq!(send(&app, request(&fresh(), "x".repeat(1 << 20))).await?.status, 201);
    Ok(())
}

async fn a_large_answer_is_streamed_after_commit<D: Driver>() -> Result {
    let (pool, key) = (DATABASE.open::<D>(1).await, fresh());
    let app = Router::new().route("/pay", post(async || "x".repeat(3 << 20))).layer(layer(pool));
    assert_eq!(send(&app, request(&key, "{}")).await?, told(200, &"x".repeat(3 << 20), false));
    assert_eq!(send(&app, request(&key, "{}")).await?, told(200, "", true));
    Ok(())
}

async fn a_panic_frees_the_key<D: Driver>() -> Result {
    let (pool, key) = (DATABASE.open::<D>(1).await, fresh());
    let runs = Arc::new(AtomicU32::new(0));
    let effect_of = key.clone();
    let pay = move |State(runs): State<Arc<AtomicU32>>, tx: Effect<D>| {
        let key = effect_of.clone();
        async move {
            D::effect(tx, key, 1).await?;
            assert!(runs.fetch_add(1, SeqCst) > 0, "the first run panics");
            std::result::Result::<_, Failed>::Ok("done")
        }
    };
    let app = Router::new().route("/pay", post(pay)).layer(layer(pool)).with_state(runs);
    let (first, same) = (app.clone(), key.clone());
    assert!(
        tokio::spawn(async move { send(&first, request(&same, "{}")).await.is_ok() })
            .await
            .is_err_and(|ended| ended.is_panic())
    );
    assert_eq!(send(&app, request(&key, "{}")).await?, told(200, "done", false));
    assert_eq!(effects(&DATABASE.admin().await, &key).await?, 1);
    Ok(())
}

async fn a_caught_error_is_answered_and_not_stored<D: Driver>() -> Result {
    let (pool, key) = (DATABASE.open::<D>(1).await, fresh());
    let pay = async |tx: Effect<D>| match D::run(tx, "SELECT 1/0".to_owned()).await {
        Ok(()) => (StatusCode::OK, "done"),
        Err(_) => (StatusCode::CONFLICT, "caught"),
    };
    let app = Router::new().route("/pay", post(pay)).layer(layer(pool));
    for _ in 0..2 {
        assert_eq!(send(&app, request(&key, "{}")).await?, told(409, "caught", false));
    }
    Ok(())
}

async fn what_names_no_key_runs_where_it_is_observed<D: Driver>() -> Result {
    let (pool, admin) = (DATABASE.open::<D>(1).await, DATABASE.admin().await);
    let watch = "SELECT idempotent_operation('watched', mode => 'observe')";
    admin.get().await?.batch_execute(watch).await?;
    for (status, kept) in [(201, 1), (409, 1), (503, 0)] {
        let key = fresh();
        let effect_of = key.clone();
        let pay = move |tx: Effect<D>| {
            let key = effect_of.clone();
            async move {
                D::effect(tx, key, 1).await?;
                std::result::Result::<_, Failed>::Ok((
                    StatusCode::from_u16(status).expect("a status"),
                    "ran",
                ))
            }
        };
        let watched = IdempotencyLayer::new(pool.clone(), "watched", one_tenant).required(true);
        let app = Router::new().route("/pay", post(pay)).layer(watched);
        assert_eq!(send(&app, request("\"broken", "{}")).await?, told(status, "ran", false));
        assert_eq!(effects(&admin, &key).await?, kept);
    }
    Ok(())
}

async fn without_a_key_there_is_no_transaction<D: Driver>() -> Result {
    let pool = DATABASE.open::<D>(1).await;
    let pay =
        async |tx: Option<Effect<D>>| if tx.is_some() { "in a transaction" } else { "without" };
    let must = async |_: Effect<D>| "in a transaction";
    let app = Router::new()
        .route("/pay", post(pay))
        .route("/must", post(must))
        .layer(layer(pool).required(false));
    assert_eq!(
        send(&app, Request::post("/pay").body(Body::empty())?).await?,
        told(200, "without", false)
    );
    assert_eq!(send(&app, request(&fresh(), "")).await?, told(200, "in a transaction", false));
    assert_eq!(send(&app, Request::post("/must").body(Body::empty())?).await?.status, 500);
    Ok(())
}
