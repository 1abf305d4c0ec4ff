//! What all clients of a round share: where the server is, the clock, the record, and when it is over.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use client::connect::Server;

use crate::Result;
use crate::history::{self, Line, Nanos, Operation};

pub struct Stage {
    /// The clients' way to the server: through the proxy.
    pub server: Server,
    pub operations: Vec<Operation>,
    began: Instant,
    record: Mutex<BufWriter<File>>,
    /// Names of transactions that were prepared, or may have been.
    prepared: Mutex<Vec<String>>,
    over: AtomicBool,
    /// Calls that may still be made.
    left: AtomicI64,
}

impl Stage {
    pub fn new(
        server: Server,
        operations: Vec<Operation>,
        record: &Path,
        calls: Option<u64>,
    ) -> Result<Self> {
        Ok(Self {
            server,
            operations,
            began: Instant::now(),
            record: Mutex::new(BufWriter::new(File::create(record)?)),
            prepared: Mutex::new(Vec::new()),
            over: AtomicBool::new(false),
            left: AtomicI64::new(
                calls.and_then(|calls| i64::try_from(calls).ok()).unwrap_or(i64::MAX),
            ),
        })
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

    pub fn add_prepared(&self, gid: String) {
        lock(&self.prepared).push(gid);
    }

    /// The one that waits the longest.
    pub fn take_prepared(&self) -> Option<String> {
        let mut prepared = lock(&self.prepared);
        if prepared.is_empty() { None } else { Some(prepared.remove(0)) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
