//! Where the server is. The suites are told by the usual PG* variables, and reach it through its Unix socket.

use std::env;
use std::path::PathBuf;

use postgres::{Client, Config, NoTls};

use crate::wire::Wire;

/// The server of this run.
#[derive(Clone, Debug)]
pub struct Server {
    pub directory: PathBuf,
    pub port: u16,
    pub user: String,
    pub database: String,
}

impl Server {
    /// From PGHOST (the socket directory), PGPORT, PGUSER and PGDATABASE, with libpq's own defaults for the last three.
    pub fn from_env() -> Self {
        let directory =
            env::var("PGHOST").expect("PGHOST must name the directory of the server's Unix socket");
        let user = env::var("PGUSER").unwrap_or_else(|_| "postgres".to_owned());
        Self {
            directory: PathBuf::from(directory),
            port: env::var("PGPORT")
                .map_or(5432, |port| port.parse().expect("PGPORT must be a number")),
            database: env::var("PGDATABASE").unwrap_or_else(|_| user.clone()),
            user,
        }
    }

    /// The same server, another database.
    #[must_use]
    pub fn with_database(&self, database: &str) -> Self {
        Self { database: database.to_owned(), ..self.clone() }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.join(format!(".s.PGSQL.{}", self.port))
    }

    /// A connection by the ordinary driver: extended protocol, prepared statements.
    pub fn client(&self) -> Result<Client, postgres::Error> {
        self.config().connect(NoTls)
    }

    /// What such a connection is made with.
    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config
            .host_path(&self.directory)
            .port(self.port)
            .user(&self.user)
            .dbname(&self.database)
            .application_name("pg_idempotent client");
        config
    }

    /// A connection that can ask without listening.
    #[track_caller]
    pub fn wire(&self) -> Wire {
        Wire::connect(self, "pg_idempotent test", "").expect("a connection to the test's database")
    }
}
