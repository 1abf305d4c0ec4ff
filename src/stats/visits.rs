//! Which database is swept when, in memory that launcher, sweepers and sessions share.
//!
//! | last visit said | next visit |
//! |---|---|
//! | nothing yet, or the extension was used since | now |
//! | done | after `sweep_interval` |
//! | more is due | now |
//! | no extension here | after `sweep_interval`, at least a minute |
//! | it failed, or never spoke | after `sweep_interval` doubled with each failure, at most an hour |

use crate::pg::clock;
use crate::pg::shared_memory::{Region, Shareable};
use pgrx::pg_sys;
use rules::retention::back_off;
use rules::{Micros, Timestamp};
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering::Relaxed};

/// Databases beyond these share one visit, each for as long as its sweeper is there: nothing is remembered of
/// them but when that was, by the launcher.
pub const CAPACITY: usize = 512;

const WITHOUT_EXTENSION: Micros = 60 * 1_000_000;

pub static VISITS: Region<Visits> = Region::new(c"pg_idempotent visits");

pub struct Visits {
    visits: [Visit; CAPACITY],
    /// Of a database for which there is no other.
    shared: Visit,
}

// SAFETY: every field is an atomic, none is a pointer, and with zeros every visit is free.
unsafe impl Shareable for Visits {}

/// What is known of one database.
pub struct Visit {
    /// 0: free.
    database: AtomicU32,
    /// One of [`Report`].
    report: AtomicU32,
    /// Failures since the last visit that went well.
    failures: AtomicU32,
    /// 1: the server log knows why they fail.
    explained: AtomicU32,
    /// 0: never.
    last_success: AtomicI64,
    /// When the last visit was over; 0: there was none.
    ended: AtomicI64,
    /// 1: a session has used the extension since the last visit began.
    used: AtomicU32,
}

/// What a sweeper said last.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// Nothing yet.
    Nothing = 0,
    /// Everything that was due is done.
    Done = 1,
    /// More is due.
    More = 2,
    /// There is no extension in this database.
    NoExtension = 3,
    /// It failed, and told the server log why.
    Failed = 4,
}

impl Report {
    fn from(number: u32) -> Self {
        match number {
            1 => Self::Done,
            2 => Self::More,
            3 => Self::NoExtension,
            4 => Self::Failed,
            _ => Self::Nothing,
        }
    }
}

impl Visits {
    /// The visit of a database, taken for it if it has none; `None` if all are taken.
    pub fn of(&self, database: pg_sys::Oid) -> Option<&Visit> {
        let database = u32::from(database);
        let mut all = self.visits.iter().chain([&self.shared]);
        all.find(|visit| visit.database.load(Relaxed) == database).or_else(|| {
            self.visits.iter().find(|visit| {
                let before = visit.database.compare_exchange(0, database, Relaxed, Relaxed);
                before.is_ok() || before == Err(database)
            })
        })
    }

    /// Frees the visits of databases that are gone.
    pub fn keep_only(&self, exists: impl Fn(pg_sys::Oid) -> bool) {
        for visit in &self.visits {
            let database = visit.database.load(Relaxed);
            if database != 0 && !exists(pg_sys::Oid::from(database)) {
                visit.free();
            }
        }
    }

    /// The visit of a database for which `of` has none; `None` while another database has it.
    pub fn share(&self, database: pg_sys::Oid) -> Option<&Visit> {
        let taken = self.shared.database.compare_exchange(0, u32::from(database), Relaxed, Relaxed);
        taken.is_ok().then_some(&self.shared)
    }

    /// Ends a visit, which is then given back.
    pub fn close(&self, visit: &Visit) {
        visit.close();
        self.give_back(visit);
    }

    /// Lets another database have the visit if it is shared.
    pub fn give_back(&self, visit: &Visit) {
        if std::ptr::eq(visit, &raw const self.shared) {
            visit.free();
        }
    }
}

impl Visit {
    fn free(&self) {
        for number in [&self.report, &self.failures, &self.explained, &self.used] {
            number.store(0, Relaxed);
        }
        for time in [&self.last_success, &self.ended] {
            time.store(0, Relaxed);
        }
        self.database.store(0, Relaxed);
    }

    /// Whether it is time for the next visit, by the interval that is set now.
    pub fn is_due(&self, now: Timestamp, interval: Micros) -> bool {
        let pause = match Report::from(self.report.load(Relaxed)) {
            Report::Done => interval,
            Report::More => 0,
            Report::NoExtension if self.used.load(Relaxed) != 0 => 0,
            Report::NoExtension => interval.max(WITHOUT_EXTENSION),
            Report::Failed | Report::Nothing => back_off(interval, self.failures()),
        };
        self.ended().saturating_add(pause) <= now
    }

    /// A sweeper is on its way; if it never speaks, that counts as a failure.
    pub fn begin(&self) {
        self.used.store(0, Relaxed);
        self.report.store(Report::Nothing as u32, Relaxed);
    }

    /// How the visit went; the sweeper's last word.
    pub fn end(&self, report: Report) {
        self.report.store(report as u32, Relaxed);
        if matches!(report, Report::Done | Report::More) {
            self.last_success.store(clock::now(), Relaxed);
        }
    }

    /// The visit is over; the launcher's answer to the sweeper's last word.
    fn close(&self) {
        let failures = match Report::from(self.report.load(Relaxed)) {
            Report::Failed | Report::Nothing => self.failures().saturating_add(1),
            Report::Done | Report::More | Report::NoExtension => 0,
        };
        self.failures.store(failures, Relaxed);
        if failures == 0 {
            self.explained.store(0, Relaxed);
        }
        self.ended.store(clock::now(), Relaxed);
    }

    /// When the last visit was over.
    pub fn ended(&self) -> Timestamp {
        self.ended.load(Relaxed)
    }

    /// Whether the server log is yet to be told why visits fail; asked once, it counts as told.
    pub fn is_unexplained(&self) -> bool {
        self.explained.swap(1, Relaxed) == 0
    }

    /// When the database was last swept.
    pub fn last_success(&self) -> Option<Timestamp> {
        Some(self.last_success.load(Relaxed)).filter(|at| *at != 0)
    }

    /// How many visits have failed since.
    pub fn failures(&self) -> u32 {
        self.failures.load(Relaxed)
    }
}

/// The extension is used in this database: the next tick visits it, if the last visit found none,
/// or is about to say so.
pub fn is_in_use() {
    if let Some(visit) = here() {
        visit.used.store(1, Relaxed);
    }
}

/// What is known of this database; `None` where the library was not preloaded.
pub fn here() -> Option<&'static Visit> {
    // SAFETY: MyDatabaseId is set when the backend connects and never written after that.
    VISITS.get()?.of(unsafe { pg_sys::MyDatabaseId })
}
