//! What all clients of a round share: where the server is, the clock, the record, and when it is over.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use client::connect::Server;

use crate::Result;
use crate::history::{self, Line, Nanos, Operation};
use crate::nodes::routing::Routes;

pub struct Stage {
    /// The clients' ways to the nodes: through a proxy each.
    pub servers: Vec<Server>,
    pub routes: Routes,
    pub operations: Vec<Operation>,
    began: Instant,
    record: Mutex<BufWriter<File>>,
    /// Names of transactions that were prepared, or may have been, and the nodes that know of them.
    prepared: Mutex<Vec<(String, u32)>>,
    /// Crashes of nodes, begun and over.
    crashes: AtomicI64,
    over: AtomicBool,
    /// Calls that may still be made.
    left: AtomicI64,
}

impl Stage {
    pub fn new(
        servers: Vec<Server>,
        operations: Vec<Operation>,
        record: &Path,
        calls: Option<u64>,
    ) -> Result<Self> {
        Ok(Self {
            routes: Routes::new(u32::try_from(servers.len())?),
            servers,
            operations,
            began: Instant::now(),
            record: Mutex::new(BufWriter::new(File::create(record)?)),
            prepared: Mutex::new(Vec::new()),
            crashes: AtomicI64::new(0),
            over: AtomicBool::new(false),
            left: AtomicI64::new(
                calls.and_then(|calls| i64::try_from(calls).ok()).unwrap_or(i64::MAX),
            ),
        })
    }

    /// When the clock began, microseconds since 1970.
    pub fn began_us(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(now.saturating_sub(self.began.elapsed()).as_micros()).unwrap_or(0)
    }

    pub fn now(&self) -> Nanos {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// # Panics
    /// If the record cannot be written: without it there is nothing to check.
    pub fn record(&self, line: &Line) {
        if matches!(line, Line::Call(_)) && self.left.fetch_sub(1, Ordering::Relaxed) <= 1 {
            self.end();
        }
        history::write(&mut *lock(&self.record), line).expect("the record can be written");
    }

    pub fn flush(&self) -> Result<()> {
        Ok(lock(&self.record).flush()?)
    }

    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Whether what is asked is asked of the node that knows of it.
    pub fn has_nodes(&self) -> bool {
        self.servers.len() > 1
    }

    /// To be called before a node crashes, and once it is back.
    pub fn note_crash(&self) {
        self.crashes.fetch_add(1, Ordering::SeqCst);
    }

    /// How many crashes are over, if none is under way.
    pub fn crashes(&self) -> Option<i64> {
        let crashes = self.crashes.load(Ordering::SeqCst);
        (crashes % 2 == 0).then_some(crashes / 2)
    }

    pub fn add_prepared(&self, gid: String, node: u32) {
        lock(&self.prepared).push((gid, node));
    }

    /// The one that waits the longest.
    pub fn take_prepared(&self) -> Option<(String, u32)> {
        let mut prepared = lock(&self.prepared);
        if prepared.is_empty() { None } else { Some(prepared.remove(0)) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
