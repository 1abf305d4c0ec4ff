//! A PgBouncer in front of a cluster, in transaction mode and with prepared statements. `PGBOUNCER` names the program,
//! of version 1.21 or newer; it is run by whoever runs the server.

use std::env;
use std::fs;
use std::process::Child;

use crate::cluster::{Cluster, Result, free_port};
use crate::connect::Server;
use crate::watch::wait_until;

/// Waits until we are gone, as the guard of a cluster does.
const GUARD: &str = r#""$1" pgbouncer.ini & read -r _; kill -KILL $!"#;

/// Gone with the value, and with the process.
pub struct Pooler {
    server: Server,
    guard: Child,
}

impl Pooler {
    /// For all databases of the cluster, each with so many connections to the server.
    pub fn start(cluster: &Cluster, connections: usize) -> Result<Self> {
        let program = env::var("PGBOUNCER")
            .map_err(|_| "PGBOUNCER must name a PgBouncer of version 1.21 or newer")?;
        fs::metadata(&program).map_err(|error| format!("{program}: {error}"))?;
        let (behind, port) = (cluster.server(), free_port()?);
        let settings = format!(
            "[databases]
            * = host={directory} port={} user={user}
            [pgbouncer]
            listen_addr =
            listen_port = {port}
            unix_socket_dir = {directory}
            logfile = {directory}/pgbouncer.log
            auth_type = any
            admin_users = {user}
            max_client_conn = 400
            pool_mode = transaction
            default_pool_size = {connections}
            max_prepared_statements = 50
            ",
            behind.port,
            directory = behind.directory.display(),
            user = behind.user,
        );
        let settings: String = settings.lines().map(|line| format!("{}\n", line.trim())).collect();
        fs::write(cluster.base().join("pgbouncer.ini"), settings)?;
        let guard = cluster.spawn_shell(GUARD, &program)?;
        let pooler = Self { server: Server { port, ..behind }, guard };
        wait_until("PgBouncer answers", || pooler.server.client().is_ok());
        Ok(pooler)
    }

    /// Where clients connect.
    pub fn server(&self) -> &Server {
        &self.server
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        // It is our child and ends by itself; there is nothing to do about one that cannot.
        let _ = self.guard.wait();
    }
}
