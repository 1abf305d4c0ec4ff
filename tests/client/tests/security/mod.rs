//! Hostile callers: what each role may, and what the others can do about it. One server for those at a time, so that
//! its roles are nobody else's.

mod access;
mod calls;
mod handlers;
mod hostile_names;
mod hostile_text;
mod isolation;
mod members;
mod search_path;
mod secrets;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use client::connect::Server;
use client::watch::wait_until;
use client::wire::quote;
use client::{Cluster, Scratch, Wire};

/// Each has what its name says, and nothing else.
pub const ROLES: [&str; 7] =
    ["nothing", "caller", "operator", "monitor", "reader", "left", "right"];

/// An operation for everybody, and one for each of two roles.
pub const OPERATIONS: [&str; 3] = ["shared", "left", "right"];

const MAKE_ROLES: &str = "
    CREATE ROLE nothing LOGIN; CREATE ROLE caller LOGIN; CREATE ROLE operator LOGIN;
    CREATE ROLE monitor LOGIN IN ROLE pg_monitor; CREATE ROLE reader LOGIN IN ROLE pg_read_all_data;
    CREATE ROLE left LOGIN; CREATE ROLE right LOGIN";

/// Keys of each operation: one that is done, one with a lease, one that nobody can tell of; and a saga in the middle.
const FILL: &str = r#"
    SELECT idempotent_operation('{op}', on_lapse => 'unknown');
    BEGIN;
    SELECT idempotent_claim('{op}', 'done', '{"n": 1}');
    SELECT idempotent_complete('{op}', 'done', '{"answer of": "{op}"}');
    COMMIT;
    SELECT idempotent_saga('{op}', '[{"name": "a", "handler": "public.handle(jsonb)"}, {"name": "b", "handler": "public.handle(jsonb)"}]');
    SELECT idempotent_saga_step('{op}', 'stands', '1');
    SELECT idempotent_claim('{op}', 'lapsed', lease => '1 millisecond')"#;

/// That of the other tests that run now, or a new one. It goes with its last user: of what goes with the process nobody
/// keeps the log.
fn cluster() -> Arc<Cluster> {
    static CLUSTER: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    let mut shared = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(cluster) = shared.upgrade() {
        return cluster;
    }
    let cluster = Cluster::start(
        "shared_preload_libraries = 'pg_idempotent'
         idempotent.sweep_interval = '200ms'",
    )
    .expect("a server");
    let quoted = MAKE_ROLES.replace("left", "\"left\"").replace("right", "\"right\"");
    cluster.server().wire().run(&quoted);
    let cluster = Arc::new(cluster);
    *shared = Arc::downgrade(&cluster);
    cluster
}

/// A database with the extension, the roles' rights, and keys of each operation.
pub struct House {
    scratch: Scratch,
    /// Dropped after the database that is in it.
    _cluster: Arc<Cluster>,
    /// Of the leased key, by operation.
    fences: Vec<(&'static str, String)>,
}

impl House {
    pub fn new() -> Self {
        Self::with("CREATE EXTENSION pg_idempotent")
    }

    /// As `new`, with the extension made so.
    pub fn with(install: &str) -> Self {
        let cluster = cluster();
        let scratch = Scratch::bare_on(cluster.server(), "");
        let mut admin = scratch.wire();
        admin.run(install);
        admin.run(
            "CREATE TABLE public.work (request jsonb);
             GRANT INSERT ON public.work TO PUBLIC;
             CREATE FUNCTION public.handle(request jsonb) RETURNS jsonb LANGUAGE sql
             AS 'INSERT INTO public.work VALUES (request); SELECT request'",
        );
        for role in ["caller", "left", "right"] {
            admin.run(&format!("SELECT idempotent_grant({})", quote(role)));
        }
        admin.run(
            "GRANT EXECUTE ON FUNCTION idempotent_operation, idempotent_seal, idempotent_resolve, idempotent_forget,
                 idempotent_forget_all, idempotent_sweep, idempotent_stats_reset, idempotent_doctor, idempotent_grant, idempotent_revoke,
                 idempotent_forget_message, idempotent_rewind, idempotent_forget_offset, idempotent_forget_scope, idempotent_export_scope,
                 idempotent_saga_explain, idempotent_saga_resume, idempotent_saga_abandon, idempotent_saga_settle,
                 idempotent_saga_forget, idempotent_own, idempotent_ignorant, idempotent_export, idempotent_import TO operator",
        );
        let fences = OPERATIONS.map(|operation| (operation, fill(&mut admin, operation))).to_vec();
        for role in ["left", "right"] {
            let role = quote(role);
            admin.run(&format!("SELECT idempotent_operation({role}, role => {role})"));
        }
        Self { scratch, _cluster: cluster, fences }
    }

    pub fn server(&self) -> &Server {
        self.scratch.server()
    }

    /// A superuser.
    pub fn admin(&self) -> Wire {
        self.scratch.wire()
    }

    pub fn login(&self, role: &str) -> Wire {
        Server { user: role.to_owned(), ..self.server().clone() }.wire()
    }

    /// SQL with the operation and the fence of its leased key put in.
    pub fn on(&self, operation: &str, sql: &str) -> String {
        let fence = self.fences.iter().find(|(name, _)| *name == operation);
        let fence = fence.map_or("NULL", |(_, fence)| fence);
        sql.replace("{op}", &quote(operation)).replace("{fence}", fence)
    }
}

fn fill(admin: &mut Wire, operation: &str) -> String {
    admin.run(&FILL.replace("{op}", operation));
    let name = quote(operation);
    let lapsed = format!("SELECT outcome FROM idempotent_replay({name}, 'lapsed')");
    wait_until("the lease has lapsed", || admin.run(&lapsed).value() == "unknown");
    let lease = format!("SELECT fence FROM idempotent_claim({name}, 'leased', lease => '1 hour')");
    admin.run(&lease).value().to_owned()
}

/// The SQLSTATE, or "ok"; nothing of the call stays.
#[track_caller]
pub fn try_it(wire: &mut Wire, sql: &str) -> String {
    wire.run("BEGIN");
    let reply = wire.call(sql);
    wire.run("ROLLBACK");
    let code = reply.code();
    if code.is_empty() { "ok".to_owned() } else { code.to_owned() }
}
