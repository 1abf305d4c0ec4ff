//! The launcher: starts sweepers, and knows nothing of what they do.

use crate::pg::clock;
use crate::stats::visits::{VISITS, Visit, Visits};
use crate::worker::databases::{self, Database};
use crate::worker::{LIBRARY, signals};
use crate::{settings, stats};
use pgrx::bgworkers::BackgroundWorkerBuilder;
use pgrx::prelude::*;
use std::collections::HashSet;

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
    let mut running: Vec<Sweeper> = Vec::new();
    let mut has_warned = false;
    while !signals::is_told_to_leave() {
        signals::reload();
        running.retain(|sweeper| !has_ended(sweeper));
        if settings::sweeper_enabled() {
            match launch(visits, &mut running) {
                Ok(()) => has_warned = false,
                Err(NoRoom) if has_warned => {}
                Err(NoRoom) => {
                    has_warned = true;
                    warn_of_no_room();
                }
            }
        }
        // Until the next tick, or until a sweeper has ended or the configuration has changed.
        clock::sleep(settings::sweep_interval());
    }
}

/// Closes the visit of one that has ended.
fn has_ended(sweeper: &Sweeper) -> bool {
    let ended = sweeper.worker.has_stopped();
    if ended {
        sweeper.visit.close();
    }
    ended
}

/// The server has no room for another worker.
struct NoRoom;

fn launch(visits: &'static Visits, running: &mut Vec<Sweeper>) -> Result<(), NoRoom> {
    let databases = databases::list();
    let exists: HashSet<_> = databases.iter().map(|database| database.oid).collect();
    visits.keep_only(|database| exists.contains(&database));
    stats::forget(|database| !exists.contains(&database));
    let interval = settings::sweep_interval();
    let mut due: Vec<_> = databases
        .iter()
        .filter(|database| database.is_open)
        .filter(|database| running.iter().all(|sweeper| sweeper.database != database.oid))
        .filter_map(|database| Some((visits.of(database.oid)?, database)))
        .filter(|(visit, _)| visit.is_due(clock::now(), interval))
        .collect();
    // The database that has waited longest comes first, or a few busy databases would take all the turns.
    due.sort_by_key(|(visit, _)| visit.ended());
    let room = settings::sweeper_max_workers().saturating_sub(running.len());
    for (visit, database) in due.into_iter().take(room) {
        visit.begin();
        let worker = start(database)?;
        running.push(Sweeper { worker, visit, database: database.oid });
    }
    Ok(())
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
