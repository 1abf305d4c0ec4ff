//! What befalls a server: the ways in which it ends, or loses a session, each of which clients must survive.

use crate::cluster::{Cluster, Result};

/// How many kinds there are.
pub const KINDS: usize = 4;

/// One of each kind in turn: the server is stopped as if the power had failed, a session is terminated, a backend is
/// killed and takes all others with it, the postmaster is killed. Afterwards the server is there again.
pub fn befall(cluster: &Cluster, number: usize) -> Result<()> {
    match number % KINDS {
        0 => cluster.crash().and_then(|()| cluster.resume()),
        1 => terminate_a_client(cluster).map(drop),
        2 => cluster.kill_a_backend(),
        _ => cluster.kill().and_then(|()| cluster.resume()),
    }
}

/// Ends a session of a client that is chosen by chance; how many there were to end.
pub fn terminate_a_client(cluster: &Cluster) -> Result<u64> {
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1";
    Ok(cluster.server().client()?.execute(terminate, &[])?)
}
