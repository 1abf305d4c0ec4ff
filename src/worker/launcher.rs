//! The launcher: starts sweepers, and knows nothing of what they do.

use crate::pg::clock;
use crate::pg::wait_event::Sleep;
use crate::stats::visits::{VISITS, Visit, Visits};
use crate::worker::databases::{self, Database};
use crate::worker::{LIBRARY, signals};
use crate::{settings, stats};
use pgrx::bgworkers::BackgroundWorkerBuilder;
use pgrx::prelude::*;
use rules::{Micros, Timestamp};
use std::collections::{HashMap, HashSet};

/// How long a warning of no room stands.
const WARNED_FOR: Micros = 60 * 60 * 1_000_000;

/// A sweeper that was started, and what it reports to.
struct Sweeper {
    worker: Handle,
    visit: &'static Visit,
    database: pg_sys::Oid,
}

/// A worker's handle, by which the server tells whether it still runs. (That of pgrx is never freed, and the
/// launcher lives as long as the server.)
struct Handle(*mut pg_sys::BackgroundWorkerHandle);

impl Handle {
    fn has_stopped(&self) -> bool {
        let mut pid = 0;
        // SAFETY: `start` keeps the handle that RegisterDynamicBackgroundWorker made, and only `drop` frees it.
        let status = unsafe { pg_sys::GetBackgroundWorkerPid(self.0, &mut pid) };
        status == pg_sys::BgwHandleStatus::BGWH_STOPPED
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: RegisterDynamicBackgroundWorker palloc'd the handle outside of a transaction, in the context
        // of the process, which is never reset; nothing uses it after the drop.
        unsafe { pg_sys::pfree(self.0.cast()) };
    }
}

#[unsafe(no_mangle)]
#[pg_guard]
pub extern "C-unwind" fn pg_idempotent_launcher(_nothing: pg_sys::Datum) {
    signals::set_up();
    // SAFETY: called once, before anything else of the worker needs a connection. Without a database only
    // shared catalogs can be read, and `databases::list` reads no other.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnectionByOid(
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
            0,
        );
    }
    if let Some(visits) = VISITS.get() {
        launch_until_told_to_leave(visits);
    }
    // Not 0, which would mean never to be started again: pg_terminate_backend is no reason for that.
    // SAFETY: proc_exit ends the process without unwinding a frame, and the loop has dropped its own.
    unsafe { pg_sys::proc_exit(1) };
}

fn launch_until_told_to_leave(visits: &'static Visits) {
    let mut launcher = Launcher { visits, running: Vec::new(), unknown: HashMap::new() };
    let mut warned = None;
    while !signals::is_told_to_leave() {
        signals::reload();
        launcher.reap();
        if settings::sweeper_enabled() {
            let now = clock::now();
            // Once for a long shortage: while it lasts, now one database finds room and now another.
            let is_told = warned.is_some_and(|at: Timestamp| now < at.saturating_add(WARNED_FOR));
            if let Err(NoRoom) = launcher.launch()
                && !is_told
            {
                warned = Some(now);
                warn_of_no_room();
            }
        }
        // Until the next tick, or until a sweeper has ended or the configuration has changed.
        clock::sleep(settings::sweep_interval(), Sleep::Launcher);
    }
}

/// The server has no room for another worker.
struct NoRoom;

struct Launcher {
    visits: &'static Visits,
    running: Vec<Sweeper>,
    /// Databases for which there is no visit, and when they were visited last.
    unknown: HashMap<pg_sys::Oid, Timestamp>,
}

impl Launcher {
    /// Closes the visits of sweepers that have ended.
    fn reap(&mut self) {
        let Self { visits, running, unknown } = self;
        running.retain(|sweeper| {
            let ended = sweeper.worker.has_stopped();
            if ended {
                visits.close(sweeper.visit);
                if let Some(visited) = unknown.get_mut(&sweeper.database) {
                    *visited = clock::now();
                }
            }
            !ended
        });
    }

    /// Starts sweepers for what is due.
    fn launch(&mut self) -> Result<(), NoRoom> {
        let databases = databases::list();
        let exists: HashSet<_> = databases.iter().map(|database| database.oid).collect();
        self.visits.keep_only(|database| exists.contains(&database));
        self.unknown.retain(|database, _| exists.contains(database));
        stats::forget(|database| !exists.contains(&database));
        let mut due = self.due(&databases);
        // The database that has waited longest comes first, or a few busy databases would take all the turns.
        due.sort_by_key(|(ended, _)| *ended);
        let room = settings::sweeper_max_workers().saturating_sub(self.running.len());
        for (_, database) in due.into_iter().take(room) {
            let visit = self.visits.of(database.oid).or_else(|| self.visits.share(database.oid));
            let Some(visit) = visit else { continue };
            visit.begin();
            let worker = start(database).inspect_err(|NoRoom| self.visits.give_back(visit))?;
            self.running.push(Sweeper { worker, visit, database: database.oid });
        }
        Ok(())
    }

    /// The databases that are to be visited now, and when they were last.
    fn due<'a>(&mut self, databases: &'a [Database]) -> Vec<(Timestamp, &'a Database)> {
        let (now, interval) = (clock::now(), settings::sweep_interval());
        let is_running = |oid| self.running.iter().any(|sweeper| sweeper.database == oid);
        let idle: Vec<_> = databases
            .iter()
            .filter(|database| database.is_open && !is_running(database.oid))
            .collect();
        let mut due = Vec::new();
        for database in idle {
            if let Some(visit) = self.visits.of(database.oid) {
                self.unknown.remove(&database.oid);
                if visit.is_due(now, interval) {
                    due.push((visit.ended(), database));
                }
                continue;
            }
            let visited = *self.unknown.entry(database.oid).or_insert(Timestamp::MIN);
            if visited.saturating_add(interval) <= now {
                due.push((visited, database));
            }
        }
        due
    }
}

fn start(database: &Database) -> Result<Handle, NoRoom> {
    // SAFETY: MyProcPid is set when the process starts and never written after that.
    let me = unsafe { pg_sys::MyProcPid };
    let builder = BackgroundWorkerBuilder::new(&format!("pg_idempotent sweeper {}", database.name))
        .set_library(LIBRARY)
        .set_function("pg_idempotent_sweeper")
        .set_argument(Some(pg_sys::Datum::from(database.oid)))
        .enable_spi_access()
        .set_notify_pid(me);
    let mut worker = pg_sys::BackgroundWorker::from(&builder);
    let mut handle = std::ptr::null_mut();
    // SAFETY: RegisterDynamicBackgroundWorker copies `worker`, and sets `handle` where it returns true.
    let registered = unsafe { pg_sys::RegisterDynamicBackgroundWorker(&mut worker, &mut handle) };
    if registered { Ok(Handle(handle)) } else { Err(NoRoom) }
}

fn warn_of_no_room() {
    ereport!(
        PgLogLevel::WARNING,
        PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
        "could not start a sweeper of idempotency records",
        "All slots for background workers are taken. Raise max_worker_processes, or sweep by hand with idempotent_sweep()."
    );
}
