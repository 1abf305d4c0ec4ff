//! Claims that outlive their transaction.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use pg_idempotent_client::{Error, Lease};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::{
    door::Door,
    server::{At, Driver, Fresh, Result, both, fresh},
};

static DATABASE: Fresh = Fresh::named("rust_lease");

both!(
    a_second_call_gets_the_answer_of_the_first,
    no_connection_is_held_while_the_handler_works,
    a_heartbeat_keeps_a_lease_beyond_its_length,
    a_lost_lease_is_told_and_nothing_stored,
    a_stale_fence_is_refused_by_the_server,
    a_lost_lease_can_cancel_the_handler,
    a_network_that_swallows_everything_costs_the_lease_in_time,
    an_error_leaves_the_lease_and_release_gives_it_back,
    a_checkpoint_reaches_the_next_holder,
    a_claim_and_an_answer_whose_commits_are_lost,
    a_release_whose_commit_is_lost_is_done,
);

async fn a_second_call_gets_the_answer_of_the_first<D: Driver>() -> Result {
    let (pool, key) = (DATABASE.open::<D>(2).await, fresh());
    let charge = async || {
        let lease = Lease::new("card", &key).scope("ada").request(&json!({"amount": 25}));
        lease.run(&pool, async |held| Ok(held.derive("network").await?)).await
    };
    let (first, second) = (charge().await?, charge().await?);
    assert_eq!((first.replayed, second.replayed), (false, true));
    assert_eq!(first.answer, second.answer);
    assert!(!first.answer.is_empty());
    Ok(())
}

async fn no_connection_is_held_while_the_handler_works<D: Driver>() -> Result {
    let pool = DATABASE.open::<D>(1).await;
    let outer = Lease::new("card", fresh()).scope(None);
    let work = async |_| {
        Ok(Lease::new("card", fresh()).scope(None).run(&pool, async |_| Ok(1)).await?.answer)
    };
    assert_eq!(outer.run(&pool, work).await?.answer, 1);
    Ok(())
}

async fn a_heartbeat_keeps_a_lease_beyond_its_length<D: Driver>() -> Result {
    let (admin, pool, key) = (DATABASE.admin().await, DATABASE.open::<D>(1).await, fresh());
    let lease = Lease::new("card", &key).scope(None).lease(Duration::from_secs(3));
    let work = async |held: pg_idempotent_client::Held| {
        // It would have lapsed.
        tokio::time::sleep(Duration::from_secs(4)).await;
        let outcome =
            "SELECT outcome FROM idempotent_claim('card', $1, lease => '1 s', wait => '0')";
        let found: String = admin.get().await?.query_one(outcome, &[&key]).await?.get(0);
        Ok((found, held.lost().is_cancelled()))
    };
    assert_eq!(lease.run(&pool, work).await?.answer, ("in_progress".to_owned(), false));
    Ok(())
}

/// Another attempt gets the key and completes it, while the handler of the first one runs.
async fn take_over<D: Driver>(key: &str, fence: i64) -> Result {
    let admin = DATABASE.admin().await;
    admin
        .get()
        .await?
        .query("SELECT idempotent_release('card', $1, fence => $2)", &[&key, &fence])
        .await?;
    let pool = DATABASE.open::<D>(1).await;
    assert!(
        !Lease::new("card", key)
            .scope(None)
            .run(&pool, async |_| Ok("of the other".to_owned()))
            .await?
            .replayed
    );
    Ok(())
}

async fn stored<D: Driver>(key: &str) -> Result<String> {
    let pool = DATABASE.open::<D>(1).await;
    let replayed =
        Lease::new("card", key).scope(None).run(&pool, async |_| Ok("a third".to_owned())).await?;
    Ok(replayed.answer)
}

async fn a_lost_lease_is_told_and_nothing_stored<D: Driver>() -> Result {
    let (pool, key) = (DATABASE.open::<D>(1).await, fresh());
    let lease = Lease::new("card", &key).scope(None).lease(Duration::from_secs(3));
    let lost = lease.run(&pool, async |held| {
        take_over::<D>(&key, held.fence()).await?;
        held.lost().cancelled().await;
        Ok("mine".to_owned())
    });
    let error = lost.await.unwrap_err();
    assert!(matches!(error, Error::LeaseLost), "{error:?}");
    assert_eq!(stored::<D>(&key).await?, "of the other");
    Ok(())
}

async fn a_stale_fence_is_refused_by_the_server<D: Driver>() -> Result {
    // Long enough that no heartbeat tells the holder.
    let (pool, key) = (DATABASE.open::<D>(1).await, fresh());
    let lost = Lease::new("card", &key).scope(None).lease(Duration::from_secs(600)).run(
        &pool,
        async |held| {
            take_over::<D>(&key, held.fence()).await?;
            Ok("mine".to_owned())
        },
    );
    assert!(matches!(lost.await, Err(Error::LeaseLost)));
    assert_eq!(stored::<D>(&key).await?, "of the other");
    Ok(())
}

async fn a_lost_lease_can_cancel_the_handler<D: Driver>() -> Result {
    let (pool, key) = (DATABASE.open::<D>(1).await, fresh());
    let lease = Lease::new("card", &key).scope(None).lease(Duration::from_secs(3)).cancel();
    let lost = lease.run(&pool, async |held| {
        take_over::<D>(&key, held.fence()).await?;
        std::future::pending::<Result<i32>>().await
    });
    assert!(matches!(lost.await, Err(Error::LeaseLost)));
    Ok(())
}

async fn a_network_that_swallows_everything_costs_the_lease_in_time<D: Driver>() -> Result {
    DATABASE.admin().await;
    let door = Door::open().await;
    let pool = D::open(DATABASE.name, At { door: Some(door.port), connections: 1 });
    let lease = Lease::new("card", fresh()).scope(None).lease(Duration::from_millis(900));
    let lost = lease.run(&pool, async |held| {
        door.go_black();
        let began = std::time::Instant::now();
        held.lost().cancelled().await;
        // By its own clock, and not when somebody answers at last.
        assert!(began.elapsed() < Duration::from_secs(20));
        Ok(1)
    });
    assert!(matches!(lost.await, Err(Error::LeaseLost)));
    Ok(())
}

async fn an_error_leaves_the_lease_and_release_gives_it_back<D: Driver>() -> Result {
    let (pool, key) = (DATABASE.open::<D>(1).await, fresh());
    let call = || Lease::new("card", &key).scope(None).wait(Duration::ZERO);
    assert!(matches!(
        call().run(&pool, async |_| Err::<i32, _>("who knows".into())).await,
        Err(Error::Handler(_))
    ));
    assert!(matches!(call().run(&pool, async |_| Ok(1)).await, Err(Error::InProgress { .. })));
    let key = fresh();
    let call = || Lease::new("card", &key).scope(None).wait(Duration::ZERO);
    let released = call().run(&pool, async |held| {
        held.release().await?;
        Err::<i32, _>("nothing was done".into())
    });
    assert!(matches!(released.await, Err(Error::Handler(_))));
    assert!(!call().run(&pool, async |_| Ok(1)).await?.replayed);
    Ok(())
}

async fn a_checkpoint_reaches_the_next_holder<D: Driver>() -> Result {
    let (pool, key) = (DATABASE.open::<D>(1).await, fresh());
    let lease = Lease::new("card", &key).scope(None).lease(Duration::from_secs(2));
    let failed = lease.run(&pool, async |held| {
        assert_eq!((held.attempt(), held.checkpoint()), (1, &serde_json::Value::Null));
        held.save(&json!({"sent": true})).await?;
        Err::<i32, _>("who knows".into())
    });
    assert!(failed.await.is_err());
    let next = Lease::new("card", &key).scope(None).wait(Duration::from_secs(20));
    let found = next.run(&pool, async |held| Ok((held.attempt(), held.checkpoint().clone())));
    assert_eq!(found.await?.answer, (2, json!({"sent": true})));
    Ok(())
}

async fn a_claim_and_an_answer_whose_commits_are_lost<D: Driver>() -> Result {
    DATABASE.admin().await;
    let door = Door::open().await;
    let pool = D::open(DATABASE.name, At { door: Some(door.port), connections: 1 });
    let (key, runs, entered) = (fresh(), Arc::new(AtomicU32::new(0)), Semaphore::new(0));
    door.break_after_commit();
    let answered = Lease::new("card", &key).scope(None).run(&pool, async |_| {
        // The attempt's own id has told that the claim is its own.
        assert_eq!(door.broken(), 1);
        door.break_after_commit();
        entered.add_permits(1);
        Ok(runs.fetch_add(1, SeqCst))
    });
    let answered = answered.await?;
    assert_eq!(
        (answered.answer, answered.replayed, door.broken(), runs.load(SeqCst)),
        (0, false, 2, 1)
    );
    assert!(Lease::new("card", &key).scope(None).run(&pool, async |_| Ok(7_u32)).await?.replayed);
    Ok(())
}

async fn a_release_whose_commit_is_lost_is_done<D: Driver>() -> Result {
    DATABASE.admin().await;
    let door = Door::open().await;
    let pool = D::open(DATABASE.name, At { door: Some(door.port), connections: 1 });
    let key = fresh();
    let call = || Lease::new("card", &key).scope(None).wait(Duration::ZERO);
    let released = call().run(&pool, async |held| {
        door.break_after_commit();
        held.release().await?;
        assert_eq!(door.broken(), 1);
        // Once more is a mistake, and told as one.
        assert!(held.release().await.is_err());
        Err::<i32, _>("nothing was done".into())
    });
    let error = released.await.unwrap_err();
    assert_eq!(
        std::error::Error::source(&error).map(ToString::to_string).as_deref(),
        Some("nothing was done")
    );
    assert!(!call().run(&pool, async |_| Ok(1)).await?.replayed);
    Ok(())
}
