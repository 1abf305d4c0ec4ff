//! A database of one's own for a test, with the extension in it, gone when the test ends.

use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use postgres::Client;

use crate::connect::Server;
use crate::intact;
use crate::wire::Wire;

static COUNT: AtomicUsize = AtomicUsize::new(0);

pub struct Scratch {
    server: Server,
    home: Server,
}

impl Scratch {
    /// With the extension where CREATE EXTENSION puts it.
    pub fn new() -> Self {
        let scratch = Self::bare("");
        scratch
            .admin()
            .batch_execute("CREATE EXTENSION pg_idempotent")
            .expect("CREATE EXTENSION pg_idempotent");
        scratch
    }

    /// Without it. `options` is what follows CREATE DATABASE name, e.g. an encoding.
    pub fn bare(options: &str) -> Self {
        Self::bare_on(Server::from_env(), options)
    }

    /// Without it, on a server of the caller's own.
    pub fn bare_on(home: Server, options: &str) -> Self {
        let name = format!("client_{}_{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        home.client()
            .and_then(|mut client| {
                client.batch_execute(&format!("CREATE DATABASE {name} {options}"))
            })
            .expect("a database of the test's own");
        Self { server: home.with_database(&name), home }
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    /// A setting for all connections made from now on.
    pub fn set(&self, setting: &str, value: &str) {
        let database = &self.server.database;
        self.admin()
            .batch_execute(&format!("ALTER DATABASE {database} SET {setting} = '{value}'"))
            .expect("a setting of the test's database");
    }

    /// A connection by the ordinary driver, to set things up and to look.
    pub fn admin(&self) -> Client {
        self.server.client().expect("a connection to the test's database")
    }

    /// A connection that can ask without listening.
    pub fn wire(&self) -> Wire {
        self.server.wire()
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    /// Also after a failed test, and a prepared transaction left behind must not keep the database: what goes wrong then
    /// is said and not raised, so as not to hide why the test failed.
    ///
    /// # Panics
    /// Fails a test that has left tables or indexes broken.
    fn drop(&mut self) {
        let flaws = clear(&self.server, &self.home);
        if thread::panicking() {
            if let Err(error) = flaws {
                eprintln!("database {} is left behind: {error}", self.server.database);
            }
            return;
        }
        let flaws = flaws.expect("the test's database is intact, and can be dropped");
        assert!(flaws.is_empty(), "{flaws:?}");
    }
}

/// What is wrong with the database, which is dropped.
fn clear(server: &Server, home: &Server) -> Result<Vec<String>, postgres::Error> {
    let mut inside = server.client()?;
    for row in inside
        .query("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()", &[])?
    {
        let gid: String = row.get(0);
        inside.batch_execute(&format!("ROLLBACK PREPARED {}", crate::wire::quote(&gid)))?;
    }
    let flaws = intact::flaws(&mut inside);
    drop(inside);
    home.client()?.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", server.database))?;
    flaws
}
