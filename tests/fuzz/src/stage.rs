//! A server with everything that random calls need.

use client::cluster::{Cluster, Result};
use client::connect::Server;
use client::watch::wait_until;
use client::wire::Wire;

/// Every error leaves its SQLSTATE in the log, and every function its number of calls.
const SETTINGS: &str = "
log_line_prefix = '%m [%p] %e '
log_min_messages = warning
log_min_error_statement = panic
track_functions = all
deadlock_timeout = 50ms
max_connections = 60
max_prepared_transactions = 20
shared_preload_libraries = 'pg_idempotent'
idempotent.sweep_interval = 1s
idempotent.default_wait = 20ms
";

pub struct Stage {
    pub cluster: Cluster,
}

impl Stage {
    pub fn new() -> Result<Self> {
        Ok(Self { cluster: Cluster::start(SETTINGS)? })
    }

    /// A new database with the extension; `options` is what follows CREATE DATABASE name.
    pub fn database(&self, name: &str, options: &str) -> Result<Server> {
        self.cluster
            .server()
            .client()?
            .batch_execute(&format!("CREATE DATABASE {name} {options}"))?;
        let server = self.cluster.server().with_database(name);
        set_up(&server, "CREATE EXTENSION pg_idempotent")?;
        Ok(server)
    }
}

/// Runs statements that must succeed; says what the server says if they do not.
pub fn set_up(server: &Server, statements: &str) -> Result<()> {
    match server.wire().call(statements).refusal {
        None => Ok(()),
        Some(refusal) => Err(format!("{refusal:?}").into()),
    }
}

/// Another connection, as soon as there is one to be had: the server may be coming back from a crash.
pub fn again(server: &Server) -> Wire {
    wait_until("the server answers", || server.client().is_ok());
    server.wire()
}
