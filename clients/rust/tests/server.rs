//! The private server that the tests run on, through either driver.

use std::future::Future;

use deadpool_postgres::{Config, Pool, PoolConfig, Runtime};
use pg_idempotent_client::{BoxError, Database, PgTx, SqlxTx, Tx};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::sync::OnceCell;
use tokio_postgres::NoTls;

pub type Result<T = ()> = std::result::Result<T, BoxError>;

pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: these tests need a server with the extension: make test ONLY=rust-client"))
}

/// Where a pool connects: to the server, or to a door in front of it.
#[derive(Clone, Copy, Default)]
pub struct At {
    pub door: Option<u16>,
    pub connections: usize,
}

/// A driver's pool, and what tests do with its transaction.
pub trait Driver: Database {
    const NAME: &'static str;

    fn open(database: &str, at: At) -> Self;

    /// Adds an effect, as a handler does; its id.
    fn effect(
        tx: Tx<Self::Transaction>,
        key: String,
        cents: i64,
    ) -> impl Future<Output = Result<i64>> + Send;

    /// Any statement.
    fn run(tx: Tx<Self::Transaction>, statement: String) -> impl Future<Output = Result> + Send;
}

impl Driver for Pool {
    const NAME: &'static str = "tokio-postgres";

    fn open(database: &str, at: At) -> Self {
        pg(database, at)
    }

    async fn effect(tx: PgTx, key: String, cents: i64) -> Result<i64> {
        Ok(tx
            .query_one(
                "INSERT INTO effect (key, cents) VALUES ($1, $2) RETURNING id",
                &[&key, &cents],
            )
            .await?
            .get(0))
    }

    async fn run(tx: PgTx, statement: String) -> Result {
        tx.batch_execute(&statement).await
    }
}

impl Driver for PgPool {
    const NAME: &'static str = "sqlx";

    fn open(database: &str, at: At) -> Self {
        let (host, port) = (variable("PGHOST"), variable("PGPORT"));
        let options =
            sqlx::postgres::PgConnectOptions::new().username("postgres").database(database);
        let options = match at.door {
            Some(port) => {
                options.host("127.0.0.1").port(port).ssl_mode(sqlx::postgres::PgSslMode::Disable)
            }
            None => options.host(&host).port(port.parse().expect("a port")),
        };
        let connections = u32::try_from(at.connections.max(1)).expect("a few");
        PgPoolOptions::new().max_connections(connections).connect_lazy_with(options)
    }

    async fn effect(tx: SqlxTx, key: String, cents: i64) -> Result<i64> {
        let insert =
            sqlx::query_scalar("INSERT INTO effect (key, cents) VALUES ($1, $2) RETURNING id")
                .bind(key)
                .bind(cents);
        Ok(insert.fetch_one(&mut **tx.lock().await?).await?)
    }

    async fn run(tx: SqlxTx, statement: String) -> Result {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut **tx.lock().await?).await?;
        Ok(())
    }
}

fn pg(database: &str, at: At) -> Pool {
    let mut config = Config::new();
    config.host = Some(if at.door.is_some() { "127.0.0.1".to_owned() } else { variable("PGHOST") });
    config.port = at.door.or_else(|| variable("PGPORT").parse().ok());
    config.user = Some("postgres".to_owned());
    config.dbname = Some(database.to_owned());
    config.pool = Some(PoolConfig::new(at.connections.max(1)));
    config.create_pool(Some(Runtime::Tokio1), NoTls).expect("a pool")
}

/// A database of its own for a module.
pub struct Fresh {
    pub name: &'static str,
    made: OnceCell<()>,
}

impl Fresh {
    pub const fn named(name: &'static str) -> Self {
        Self { name, made: OnceCell::const_new() }
    }

    /// A connection beside all pools that are tested.
    pub async fn admin(&'static self) -> Pool {
        self.made
            .get_or_init(|| async {
                let name = self.name;
                let server = pg("postgres", At::default()).get().await.expect("a server");
                server.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await.expect("no database");
                server.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a database");
                let database = pg(name, At::default()).get().await.expect("a connection");
                let statements = "CREATE EXTENSION pg_idempotent;
                    CREATE TABLE effect (id bigint GENERATED ALWAYS AS IDENTITY, key text, cents bigint)";
                database.batch_execute(statements).await.expect("the extension");
            })
            .await;
        pg(self.name, At { door: None, connections: 4 })
    }

    pub async fn open<D: Driver>(&'static self, connections: usize) -> D {
        self.admin().await;
        D::open(self.name, At { door: None, connections })
    }
}

/// How many effects a key has.
pub async fn effects(admin: &Pool, key: &str) -> Result<i64> {
    Ok(admin
        .get()
        .await?
        .query_one("SELECT count(*) FROM effect WHERE key = $1", &[&key])
        .await?
        .get(0))
}

/// A key that no other test has.
pub fn fresh() -> String {
    pg_idempotent_client::testing::fresh_scope()
}

/// A test that waits for what never comes fails, instead of being ended with all others.
pub async fn in_time(test: impl Future<Output = Result>) -> Result {
    tokio::time::timeout(std::time::Duration::from_secs(180), test).await?
}

/// The same tests through both drivers.
macro_rules! both {
    ($($name:ident),+ $(,)?) => {
        mod tokio_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() -> $crate::server::Result {
                $crate::server::in_time(super::$name::<deadpool_postgres::Pool>()).await
            })+
        }
        mod sqlx {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() -> $crate::server::Result {
                $crate::server::in_time(super::$name::<sqlx::PgPool>()).await
            })+
        }
    };
}
pub(crate) use both;
