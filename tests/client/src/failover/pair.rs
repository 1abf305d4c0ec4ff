//! A primary and the standby that follows it.

use std::mem;

use crate::cluster::{Backup, Cluster, Result};
use crate::connect::Server;
use crate::watch::wait_until;
use crate::wire::quote;

/// pg_rewind wants hints in the log, whole pages after a checkpoint, and the log of before the parting.
const REPLICATED: &str = "
    wal_log_hints = on
    full_page_writes = on
    wal_keep_size = '1GB'
    shared_preload_libraries = 'pg_idempotent'
    idempotent.sweep_interval = '100ms'";

pub struct Pair {
    pub primary: Cluster,
    pub standby: Cluster,
}

impl Pair {
    /// Both running; commits wait for nobody.
    pub fn start(install: &str) -> Result<Self> {
        let primary = Cluster::start(REPLICATED)?;
        primary.server().wire().run(install);
        let standby = primary.backup(Backup::Standby, REPLICATED)?;
        let pair = Self { primary, standby };
        pair.wait_for_standby("state = 'streaming'");
        Ok(pair)
    }

    /// From now on a commit is acknowledged when the standby has it, too.
    pub fn make_synchronous(&self) {
        let mut admin = self.primary.server().wire();
        admin.run("ALTER SYSTEM SET synchronous_standby_names = '*'");
        admin.run("SELECT pg_reload_conf()");
        self.wait_for_standby("sync_state = 'sync'");
    }

    /// The standby hears nothing any more, as if the network between the two were cut.
    pub fn cut_off(&self) {
        let mut admin = self.standby.server().wire();
        admin.run("ALTER SYSTEM SET primary_conninfo = ''");
        admin.run("SELECT pg_reload_conf()");
        let mut witness = self.primary.server().wire();
        wait_until("the standby is cut off", || {
            witness.run("SELECT count(*) FROM pg_stat_replication").value() == "0"
        });
    }

    /// Until the standby shows all that the primary has written by now.
    pub fn catch_up(&self) {
        let written = self
            .primary
            .server()
            .wire()
            .run("SELECT pg_current_wal_flush_lsn()")
            .value()
            .to_owned();
        let mut wire = self.standby.server().wire();
        wait_until("the standby has caught up", || {
            wire.run(&format!("SELECT pg_last_wal_replay_lsn() >= {}", quote(&written))).value()
                == "t"
        });
    }

    /// The standby becomes the primary; the other one is as dead as before.
    pub fn promote(&mut self) -> Result<Server> {
        self.standby.promote()?;
        mem::swap(&mut self.primary, &mut self.standby);
        Ok(self.primary.server())
    }

    /// The dead one comes back and follows.
    pub fn rejoin(&self) -> Result<()> {
        self.standby.rejoin(&self.primary, REPLICATED)?;
        self.wait_for_standby("state = 'streaming'");
        self.catch_up();
        Ok(())
    }

    fn wait_for_standby(&self, state: &str) {
        let mut wire = self.primary.server().wire();
        let question = format!("SELECT count(*) FROM pg_stat_replication WHERE {state}");
        wait_until(&format!("the standby's {state}"), || wire.run(&question).value() == "1");
    }
}
