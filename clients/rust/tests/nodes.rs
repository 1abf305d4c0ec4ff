//! Several nodes: databases of one server, which is all that they need to be.

use axum::{body::Body, http::Request, routing::post};
use deadpool_postgres::Pool;
use pg_idempotent_client::{IdempotencyLayer, Lease, Once, PgTx, http::one_tenant, route::Router};
use tower_service::Service;

use crate::server::{Fresh, Result, fresh, in_time};

static NODES: [Fresh; 2] = [Fresh::named("rust_node_a"), Fresh::named("rust_node_b")];

/// From now on a node answers for no slot.
async fn owns_nothing(node: &Pool) -> Result {
    Ok(node.get().await?.batch_execute("SELECT idempotent_own('{}')").await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_slots_have_moved_the_call_goes_to_the_node_that_has_them() -> Result {
    in_time(async {
        let nodes = [NODES[0].admin().await, NODES[1].admin().await];
        let router = Router::new(nodes.clone()).expect("two nodes");
        let key = fresh();
        owns_nothing(router.of(&key, None)).await?;

        let call = Once::new("charge", &key).scope(None);
        let paid = || {
            router.run(&key, None, async |pool: Pool| {
                call.clone().run(&pool, async |_: PgTx| Ok("paid".to_owned())).await
            })
        };
        let answers = (paid().await?, paid().await?);
        assert_eq!((answers.0.replayed, answers.1.replayed), (false, true));
        let card = Lease::new("card", &key).scope(None);
        let charged = router
            .run(&key, None, async |pool: Pool| card.clone().run(&pool, async |_| Ok(7_i64)).await);
        assert_eq!(charged.await?.answer, 7);

        // Where no node answers for the key, that is the caller's to see.
        for node in &nodes {
            owns_nothing(node).await?;
        }
        let refused = paid().await.expect_err("no node has it");
        assert_eq!((refused.sqlstate(), refused.http_status()), (Some("ID010"), 421));
        let layer = IdempotencyLayer::new(nodes[0].clone(), "api", one_tenant);
        let mut served = axum::Router::new().route("/", post(async || "ran")).layer(layer);
        let request = Request::post("/").header("idempotency-key", &key).body(Body::empty())?;
        assert_eq!(served.call(request).await?.status(), 421);
        Ok(())
    })
    .await
}
