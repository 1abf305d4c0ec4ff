//! Claims in the transaction of the work.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use pg_idempotent_client::{Error, Isolation, Once, complete, fail, testing};
use serde_json::{Value, json};
use tokio::sync::{OnceCell, Semaphore};

use crate::{
    door::Door,
    server::{At, Driver, Fresh, Result, both, effects, fresh},
};

static DATABASE: Fresh = Fresh::named("rust_once");
static BARE: OnceCell<()> = OnceCell::const_new();

both!(
    a_second_call_gets_the_answer_of_the_first,
    a_scope_has_keys_of_its_own,
    another_request_is_a_mismatch,
    an_error_rolls_back_and_the_next_call_runs,
    a_failure_is_stored_with_status_and_headers,
    a_large_answer_is_evicted,
    a_conflict_runs_the_handler_again,
    tries_end_with_unavailable,
    a_connection_that_breaks_in_place_of_commit,
    a_commit_whose_answer_is_lost,
    a_backend_that_is_terminated_under_the_handler,
    a_held_key_is_in_progress,
    a_pool_of_two_under_sixty_duplicates,
    a_nested_call_is_refused,
    a_transaction_ends_with_its_handler,
    a_call_that_is_dropped_leaves_no_open_transaction,
    names_that_are_none_are_refused,
    a_database_without_the_extension_is_told_of,
    an_isolation_level_is_set,
    tests_in_a_transaction_that_is_rolled_back,
    calls_are_observed,
);

async fn a_second_call_gets_the_answer_of_the_first<D: Driver>() -> Result {
    let (pool, key) = (DATABASE.open::<D>(2).await, fresh());
    let charge = async || {
        let once = Once::new("charge", &key).scope("ada").request(&json!({"amount": 25}));
        once.run(&pool, |tx| D::effect(tx, key.clone(), 25)).await
    };
    let (first, second) = (charge().await?, charge().await?);
    assert_eq!((first.replayed, second.replayed), (false, true));
    assert_eq!(first.answer, second.answer);
    assert_eq!(effects(&DATABASE.admin().await, &key).await?, 1);
    Ok(())
}

async fn a_scope_has_keys_of_its_own<D: Driver>() -> Result {
    let (pool, key) = (DATABASE.open::<D>(2).await, fresh());
    for scope in [Some("ada"), Some("bob"), None] {
        assert!(
            !Once::new("charge", &key)
                .scope(scope)
                .run(&pool, |tx| D::effect(tx, key.clone(), 1))
                .await?
                .replayed
        );
    }
    assert_eq!(effects(&DATABASE.admin().await, &key).await?, 3);
    Ok(())
}

async fn another_request_is_a_mismatch<D: Driver>() -> Result {
    let (pool, key) = (DATABASE.open::<D>(2).await, fresh());
    Once::new("charge", &key)
        .scope(None)
        .request(&json!({"a": 1}))
        .run(&pool, |_| async { Ok(1) })
        .await?;
    let error = Once::new("charge", &key)
        .scope(None)
        .request(&json!({"a": 2}))
        .run(&pool, |_| async { Ok(1) })
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Mismatch));
    assert_eq!((error.sqlstate(), error.http_status()), (Some("ID002"), 422));
    Ok(())
}

async fn an_error_rolls_back_and_the_next_call_runs<D: Driver>() -> Result {
    let (pool, key) = (DATABASE.open::<D>(2).await, fresh());
    let failing = Once::new("charge", &key).scope(None).run(&pool, async |tx| {
        D::effect(tx, key.clone(), 1).await?;
        Err::<i64, _>("no".into())
    });
    assert_eq!(
        std::error::Error::source(&failing.await.unwrap_err()).map(ToString::to_string),
        Some("no".to_owned())
    );
    assert!(
        !Once::new("charge", &key)
            .scope(None)
            .run(&pool, |tx| D::effect(tx, key.clone(), 1))
            .await?
            .replayed
    );
    assert_eq!(effects(&DATABASE.admin().await, &key).await?, 1);
    Ok(())
}

async fn a_failure_is_stored_with_status_and_headers<D: Driver>() -> Result {
    let (pool, key) = (DATABASE.open::<D>(2).await, fresh());
    let decline = async || {
        let declined = fail(json!({"error": "declined"})).status(402).headers(json!({"a": "b"}));
        Once::new("charge", &key).scope(None).run(&pool, |_| async { Ok(declined.clone()) }).await
    };
    let (first, second) = (decline().await?, decline().await?);
    assert_eq!((first.failed, first.status, first.replayed), (true, Some(402), false));
    assert_eq!((second.failed, second.status, second.replayed), (true, Some(402), true));
    assert_eq!((second.answer, second.headers), (first.answer, json!({"a": "b"})));
    let answered = Once::new("charge", fresh())
        .scope(None)
        .run(&pool, |_| async { Ok(complete(1).status(201)) })
        .await?;
    assert_eq!((answered.answer, answered.status, answered.failed), (1, Some(201), false));
    Ok(())
}

async fn a_large_answer_is_evicted<D: Driver>() -> Result {
    let (pool, key) = (DATABASE.open::<D>(2).await, fresh());
    let large = async || {
        Once::new("large", &key)
            .scope(None)
            .run(&pool, |_| async { Ok(complete("x".repeat(2 << 20)).status(200)) })
            .await
    };
    assert_eq!(large().await?.answer.len(), 2 << 20);
    let error = large().await.unwrap_err();
    assert!(matches!(error, Error::Evicted { status: Some(200) }), "{error:?}");
    Ok(())
}

async fn a_conflict_runs_the_handler_again<D: Driver>() -> Result {
    let (pool, key) = (DATABASE.open::<D>(2).await, fresh());
    for code in ["40001", "40P01"] {
        let (key, runs) = (format!("{key}-{code}"), AtomicU32::new(0));
        let answered = Once::new("charge", &key).scope(None).run(&pool, async |tx| {
            let id = D::effect(tx.clone(), key.clone(), 1).await?;
            if runs.fetch_add(1, SeqCst) < 2 {
                D::run(
                    tx,
                    format!(
                        "DO $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = '{code}'; END $$"
                    ),
                )
                .await?;
            }
            Ok(id)
        });
        assert!(!answered.await?.replayed);
        assert_eq!((runs.load(SeqCst), effects(&DATABASE.admin().await, &key).await?), (3, 1));
    }
    Ok(())
}

async fn tries_end_with_unavailable<D: Driver>() -> Result {
    let (pool, runs) = (DATABASE.open::<D>(2).await, AtomicU32::new(0));
    let error = Once::new("charge", fresh()).scope(None).tries(3).run(&pool, async |tx| {
        runs.fetch_add(1, SeqCst);
        D::run(
            tx,
            "DO $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = '40001'; END $$".to_owned(),
        )
        .await
    });
    assert!(matches!(error.await, Err(Error::Unavailable(_))));
    assert_eq!(runs.load(SeqCst), 3);
    Ok(())
}

/// One call through a door that breaks the connection of its COMMIT; how often the handler ran.
async fn broken<D: Driver>(is_after: bool) -> Result<(u32, bool)> {
    let (admin, door, key) = (DATABASE.admin().await, Door::open().await, fresh());
    let pool = D::open(DATABASE.name, At { door: Some(door.port), connections: 2 });
    let runs = AtomicU32::new(0);
    let answered = Once::new("charge", &key).scope(None).wait(Duration::from_secs(20)).run(
        &pool,
        async |tx| {
            let id = D::effect(tx, key.clone(), 1).await?;
            if runs.fetch_add(1, SeqCst) == 0 {
                if is_after { door.break_after_commit() } else { door.break_before_commit() }
            }
            Ok(id)
        },
    );
    let answered = answered.await?;
    assert_eq!((effects(&admin, &key).await?, door.broken()), (1, 1));
    let stored: i64 =
        admin.get().await?.query_one("SELECT id FROM effect WHERE key = $1", &[&key]).await?.get(0);
    assert_eq!(answered.answer, stored);
    Ok((runs.into_inner(), answered.replayed))
}

async fn a_connection_that_breaks_in_place_of_commit<D: Driver>() -> Result {
    assert_eq!(broken::<D>(false).await?, (2, false));
    Ok(())
}

async fn a_commit_whose_answer_is_lost<D: Driver>() -> Result {
    // The claim tells: the handler does not run again.
    assert_eq!(broken::<D>(true).await?, (1, true));
    Ok(())
}

async fn a_backend_that_is_terminated_under_the_handler<D: Driver>() -> Result {
    let (admin, pool, key) = (DATABASE.admin().await, DATABASE.open::<D>(2).await, fresh());
    let runs = AtomicU32::new(0);
    let answered = Once::new("charge", &key).scope(None).wait(Duration::from_secs(20)).run(&pool, async |tx| {
        let id = D::effect(tx.clone(), key.clone(), 1).await?;
        if runs.fetch_add(1, SeqCst) == 0 {
            D::run(tx.clone(), format!("SET application_name = '{}'", &key[..40])).await?;
            let end = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = $1";
            admin.get().await?.query(end, &[&&key[..40]]).await?;
        }
        Ok(id)
    });
    assert!(!answered.await?.replayed);
    assert_eq!((runs.load(SeqCst), effects(&admin, &key).await?), (2, 1));
    Ok(())
}

async fn a_held_key_is_in_progress<D: Driver>() -> Result {
    let (pool, key) = (DATABASE.open::<D>(4).await, fresh());
    let (entered, open) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let first = tokio::spawn({
        let (pool, key, entered, open) =
            (pool.clone(), key.clone(), Arc::clone(&entered), Arc::clone(&open));
        async move {
            let once = Once::new("charge", &key).scope(None);
            let work = async |tx| {
                let id = D::effect(tx, key.clone(), 1).await?;
                entered.add_permits(1);
                open.acquire().await?.forget();
                Ok(id)
            };
            once.run(&pool, work).await
        }
    });
    entered.acquire().await?.forget();
    let again = || {
        Once::new("charge", &key)
            .scope(None)
            .wait(Duration::from_millis(50))
            .run(&pool, |_| async { Ok(0_i64) })
    };
    assert!(matches!(again().await, Err(Error::InProgress { .. })));
    open.add_permits(1);
    let answer = first.await??.answer;
    assert_eq!(again().await?.answer, answer);
    Ok(())
}

async fn a_pool_of_two_under_sixty_duplicates<D: Driver>() -> Result {
    let (pool, key) = (DATABASE.open::<D>(2).await, fresh());
    let (entered, open) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let duplicates = tokio::spawn({
        let (pool, key, entered, open) =
            (pool.clone(), key.clone(), Arc::clone(&entered), Arc::clone(&open));
        testing::duplicates(60, move |_| {
            let (pool, key, entered, open) =
                (pool.clone(), key.clone(), Arc::clone(&entered), Arc::clone(&open));
            async move {
                let once = Once::new("charge", &key)
                    .scope(None)
                    .wait(Duration::from_secs(60))
                    .deadline(Duration::from_secs(60));
                let work = async |tx| {
                    let id = D::effect(tx, key.clone(), 1).await?;
                    entered.add_permits(1);
                    open.acquire().await?.forget();
                    Ok(id)
                };
                once.run(&pool, work).await.map(|answered| answered.answer)
            }
        })
    });
    entered.acquire().await?.forget();
    // Another key's request gets the second connection, whatever waits.
    let began = Instant::now();
    Once::new("charge", fresh()).scope(None).run(&pool, |_| async { Ok(1) }).await?;
    println!("another key took {:?} while 59 duplicates waited for one", began.elapsed());
    open.add_permits(1);
    let answers: Vec<i64> = duplicates.await?.into_iter().collect::<std::result::Result<_, _>>()?;
    assert!(answers.len() == 60 && answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(effects(&DATABASE.admin().await, &key).await?, 1);
    Ok(())
}

async fn a_nested_call_is_refused<D: Driver>() -> Result {
    let pool = DATABASE.open::<D>(1).await;
    let nested = Once::new("charge", fresh()).scope(None).run(&pool, |_| async {
        Ok(Once::new("charge", fresh()).scope(None).run(&pool, |_| async { Ok(1) }).await?.answer)
    });
    let error = nested.await.unwrap_err();
    assert!(
        matches!(&error, Error::Handler(cause) if matches!(cause.downcast_ref(), Some(Error::Nested))),
        "{error:?}"
    );
    Ok(())
}

async fn a_transaction_ends_with_its_handler<D: Driver>() -> Result {
    let pool = DATABASE.open::<D>(1).await;
    let kept = Mutex::new(None);
    let answered = Once::new("charge", fresh()).scope(None).run(&pool, async |tx| {
        *kept.lock().expect("whole") = Some(tx);
        Ok(1)
    });
    answered.await?;
    let tx = kept.into_inner()?.expect("the handler has run");
    assert!(matches!(tx.lock().await.err(), Some(Error::Ended)));
    Ok(())
}

async fn a_call_that_is_dropped_leaves_no_open_transaction<D: Driver>() -> Result {
    let (pool, key) = (DATABASE.open::<D>(1).await, fresh());
    let entered = Semaphore::new(0);
    {
        let hanging = Once::new("charge", &key).scope(None).run(&pool, async |tx| {
            D::effect(tx, key.clone(), 1).await?;
            entered.add_permits(1);
            std::future::pending::<Result<i64>>().await
        });
        tokio::select! {
            _ = hanging => unreachable!("it hangs"),
            permit = entered.acquire() => permit?.forget(),
        }
    }
    // The pool's only connection serves again, and the key is free.
    let again = Once::new("charge", &key).scope(None).wait(Duration::from_secs(20));
    assert!(!again.run(&pool, |tx| D::effect(tx, key.clone(), 1)).await?.replayed);
    assert_eq!(effects(&DATABASE.admin().await, &key).await?, 1);
    Ok(())
}

async fn names_that_are_none_are_refused<D: Driver>() -> Result {
    let pool = DATABASE.open::<D>(1).await;
    for key in [String::new(), "x".repeat(256)] {
        let error =
            Once::new("charge", key).scope(None).run(&pool, |_| async { Ok(1) }).await.unwrap_err();
        assert!(matches!(error, Error::InvalidKey(_)), "{error:?}");
        assert_eq!((error.sqlstate(), error.http_status()), (Some("ID006"), 400));
    }
    Ok(())
}

async fn a_database_without_the_extension_is_told_of<D: Driver>() -> Result {
    BARE.get_or_try_init(|| async {
        let admin = DATABASE.admin().await.get().await?;
        admin.batch_execute("DROP DATABASE IF EXISTS rust_bare WITH (FORCE)").await?;
        admin.batch_execute("CREATE DATABASE rust_bare").await?;
        Result::Ok(())
    })
    .await?;
    let pool = D::open("rust_bare", At { door: None, connections: 1 });
    let error = Once::new("charge", "k").scope(None).run(&pool, async |_| Ok(1)).await;
    let error = error.expect_err("there is none");
    assert!(matches!(error, Error::NotInstalled(_)), "{error:?}");
    assert!(error.to_string().ends_with("CREATE EXTENSION pg_idempotent"));
    Ok(())
}

async fn an_isolation_level_is_set<D: Driver>() -> Result {
    let (pool, key) = (DATABASE.open::<D>(1).await, fresh());
    let once = Once::new("charge", &key).scope(None).isolation(Isolation::Serializable);
    let is_serializable =
        "DO $$ BEGIN ASSERT current_setting('transaction_isolation') = 'serializable'; END $$";
    once.run(&pool, |tx| D::run(tx, is_serializable.to_owned())).await?;
    Ok(())
}

async fn tests_in_a_transaction_that_is_rolled_back<D: Driver>() -> Result {
    let (pool, key) = (DATABASE.open::<D>(1).await, fresh());
    testing::rolled_back(&pool, |tx, _| D::effect(tx, key.clone(), 1)).await?;
    assert_eq!(effects(&DATABASE.admin().await, &key).await?, 0);
    let open = |tx, scope: String| {
        D::run(
            tx,
            format!(
                "DO $$ BEGIN PERFORM idempotent_claim('charge', 'k', '1', scope => '{scope}'); END $$"
            ),
        )
    };
    let error = testing::rolled_back(&pool, open).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("ID009"));
    Ok(())
}

async fn calls_are_observed<D: Driver>() -> Result {
    let (pool, key, events) =
        (DATABASE.open::<D>(1).await, fresh(), Arc::new(Mutex::new(Vec::new())));
    for _ in 0..2 {
        let events = Arc::clone(&events);
        let once = Once::new("charge", &key)
            .scope(None)
            .observe(move |event| events.lock().expect("whole").push(event.clone()));
        once.run(&pool, |_| async { Ok(Value::Null) }).await?;
    }
    let told: Vec<_> = events
        .lock()
        .expect("whole")
        .iter()
        .map(|event| (event.mode, event.outcome.clone(), event.replayed))
        .collect();
    assert_eq!(
        told,
        [("transaction", "claimed".to_owned(), false), ("transaction", "replay".to_owned(), true)]
    );
    Ok(())
}
