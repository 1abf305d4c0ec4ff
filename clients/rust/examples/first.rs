use deadpool_postgres::{Config, Runtime};
use pg_idempotent_client::{BoxError, Once, PgTx};
use serde_json::json;
use tokio_postgres::NoTls;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let config = Config { url: Some(std::env::var("DATABASE_URL")?), ..Config::new() };
    let pool = config.create_pool(Some(Runtime::Tokio1), NoTls)?;
    let charge = Once::new("charge", "order-1").scope(None).request(&json!({"amount": 25}));
    let answered = charge.run(&pool, async |tx: PgTx| {
        tx.execute("INSERT INTO payment (customer, amount) VALUES ('ada', 25)", &[]).await?;
        Ok(json!({"paid": 25})) // stored and committed with the row; a second call returns it
    });
    let answered = answered.await?;
    println!("{} {}", answered.answer, answered.replayed);
    Ok(())
}
