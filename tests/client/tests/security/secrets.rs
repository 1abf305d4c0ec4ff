//! Requests and answers with a marker in them, through everything that can go wrong: the marker is in no line of the server's log
//! at any level, in nothing that a caller is told, in no view and in no dump.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::{Arc, Mutex};

use client::connect::Server;
use client::watch::wait_until;
use client::wire::quote;
use client::{Cluster, Scratch};
use postgres::error::{DbError, SqlState};
use postgres::{Client, NoTls};

use super::members::Function;
use super::{calls, members};

const MARKER: &str = "sesame-47-11-opens";

/// As much as a server can be made to say, but the statements themselves: what is in those it was told to write.
const LOUD: &str = "
    shared_preload_libraries = 'pg_idempotent'
    idempotent.sweep_interval = '100ms'
    idempotent.default_wait = '1ms'
    max_prepared_transactions = 5
    log_min_messages = debug5
    log_error_verbosity = verbose
    log_statement = none
    log_lock_waits = on
    deadlock_timeout = '50ms'
    track_functions = 'all'";

/// Keys in every state, of an operation with small answers.
const STATES: &str = r#"
    CREATE EXTENSION pg_idempotent;
    CREATE ROLE stranger LOGIN; CREATE ROLE granted LOGIN; CREATE ROLE operator LOGIN;
    SELECT idempotent_grant('granted');
    GRANT EXECUTE ON FUNCTION idempotent_operation TO operator;
    SELECT idempotent_operation('op', on_lapse => 'unknown', retention => '1 hour');
    SELECT idempotent_operation('tiny', max_response_bytes => 10);
    SELECT idempotent_operation('closed', role => 'operator');
    SELECT idempotent_seal('op', 'sealed');
    CREATE FUNCTION public.echo(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
    CREATE FUNCTION public.raises(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '%', $1; END $$;
    BEGIN;
    SELECT idempotent_claim('op', 'done');
    SELECT idempotent_complete('op', 'done', '"of no interest"');
    COMMIT"#;

/// With the same request that is tried later, or that would be a mismatch before it is anything else.
const LEASES: &[&str] = &[
    "SELECT idempotent_claim('op', 'lapsed', jsonb_build_object('secret', $1::text), lease => '1 millisecond')",
    "SELECT idempotent_claim('op', 'leased', jsonb_build_object('secret', $1::text), lease => '1 hour')",
    "SELECT idempotent_claim('tiny', 'leased', jsonb_build_object('secret', $1::text), lease => '1 hour')",
];

/// A connection that keeps everything that it is told.
struct Ear {
    client: Client,
    told: Arc<Mutex<Vec<String>>>,
    codes: BTreeSet<String>,
}

impl Ear {
    fn new(server: &Server) -> Self {
        let told = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&told);
        let mut config = server.config();
        config.notice_callback(move |notice: DbError| {
            keep.lock().expect("one thread").push(format!("{notice:?}"))
        });
        let client = config.connect(NoTls).expect("a connection");
        Self { client, told, codes: BTreeSet::new() }
    }

    /// Calls with the marker as the parameter `$1`, a text; nothing of it stays unless the statement says so.
    fn call(&mut self, sql: &str) {
        let answer = self.client.query(sql, &[&MARKER]);
        self.hear(answer.err());
    }

    fn plain(&mut self, sql: &str) {
        let answer = self.client.batch_execute(sql);
        self.hear(answer.err());
    }

    fn hear(&mut self, error: Option<postgres::Error>) {
        if let Some(error) = error {
            let error = error.as_db_error().expect("an answer of the server's");
            self.codes.insert(error.code().code().to_owned());
            self.told.lock().expect("one thread").push(format!("{error:?}"));
        }
    }

    #[track_caller]
    fn has_heard_nothing(&self) {
        let told = self.told.lock().expect("one thread");
        let leaked: Vec<&String> = told.iter().filter(|words| words.contains(MARKER)).collect();
        assert!(leaked.is_empty(), "{leaked:#?}");
    }
}

/// The marker as a value of this type, if such a value can be a body.
fn body(kind: &str) -> Option<&'static str> {
    match kind {
        "jsonb" => Some("jsonb_build_object('secret', $1::text)"),
        "bytea" => Some("convert_to($1::text, 'UTF8')"),
        _ => None,
    }
}

/// Every call of a function with a body in this argument: for keys in every state, with the right fence and without.
fn variations(function: &Function, call: &calls::Call, argument: &str, body: &str) -> Vec<String> {
    let has = |name: &str| function.arguments.iter().any(|(argument, _)| argument == name);
    if !has("key") {
        return vec![call.sql(function, Some((argument, body)))];
    }
    let more = if has("strict") { ["", ", strict => true"].as_slice() } else { [""].as_slice() };
    let fences = if has("fence") { ["", "fence"].as_slice() } else { [""].as_slice() };
    let mut all = Vec::new();
    for key in ["new", "done", "leased", "lapsed", "sealed", "mine", "", "bad\u{1}key"] {
        for operation in ["'op'", "'tiny'", "'closed'", "''"] {
            for (more, fence) in
                more.iter().flat_map(|more| fences.iter().map(move |fence| (more, fence)))
            {
                let mut arguments: Vec<(&str, String)> = call
                    .arguments
                    .iter()
                    .filter(|(name, _)| !["operation", "key", "fence", argument].contains(name))
                    .map(|(name, value)| {
                        (
                            *name,
                            (*value)
                                .replace("public.handle(pg_catalog.jsonb)", "public.echo(jsonb)"),
                        )
                    })
                    .collect();
                arguments.push(("operation", operation.to_owned()));
                arguments.push(("key", quote(key)));
                arguments.push((argument, body.to_owned()));
                if !fence.is_empty() {
                    arguments.push(("fence", format!("(SELECT fence FROM public.fences WHERE operation = {operation} AND key = {})", quote(key))));
                }
                let arguments: Vec<String> =
                    arguments.iter().map(|(name, value)| format!("{name} => {value}")).collect();
                all.push(format!("SELECT {}({}{more})", function.name, arguments.join(", ")));
            }
        }
    }
    all
}

/// Every body argument of every function, in every state of a key; returns the arguments that were tried.
fn try_bodies(ear: &mut Ear, functions: &[Function]) -> usize {
    let mut tried = 0;
    for (function, call) in calls::of(functions) {
        for (argument, kind) in &function.arguments {
            let Some(body) = body(kind) else { continue };
            tried += 1;
            for sql in variations(function, call, argument, body) {
                ear.plain("BEGIN; SELECT idempotent_claim('op', 'mine', '1')");
                ear.call(&sql);
                ear.plain("ROLLBACK");
                // By itself: what claims and does not complete meets the commit guard.
                ear.plain("BEGIN");
                ear.call(&sql);
                ear.plain("COMMIT");
            }
        }
    }
    tried
}

/// What is not one call that fails by itself.
fn try_accidents(ear: &mut Ear, scratch: &Scratch, cluster: &Cluster) {
    let answer = "jsonb_build_object('answer', $1::text)";
    // Stored, replayed, seen by another request, prepared, stored as an error of the handler's.
    ear.plain("BEGIN");
    ear.call("SELECT idempotent_claim('op', 'kept', to_jsonb($1::text))");
    ear.call(&format!("SELECT idempotent_complete('op', 'kept', {answer}, headers => {answer}, body => convert_to($1, 'UTF8'))"));
    ear.plain("COMMIT");
    ear.call("SELECT idempotent_claim('op', 'kept', to_jsonb($1::text))");
    ear.call(
        "SELECT idempotent_claim('op', 'kept', to_jsonb($1 || ' of another'), strict => true)",
    );
    ear.plain("BEGIN");
    ear.call("SELECT idempotent_claim('op', 'prepared', to_jsonb($1::text))");
    ear.plain("PREPARE TRANSACTION 'with an open claim'");
    ear.plain("SELECT idempotent_operation('op', store_failures => '{P0001}')");
    ear.call("SELECT idempotent_run('op', 'raised', to_jsonb($1::text), 'public.raises(jsonb)')");
    ear.plain("SELECT idempotent_operation('op', store_failures => '{}')");
    ear.plain("BEGIN READ ONLY");
    ear.call("SELECT idempotent_claim('op', 'read only', to_jsonb($1::text))");
    ear.plain("ROLLBACK");
    // A winner that is newer than the snapshot.
    ear.plain("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
    let mut other = Ear::new(scratch.server());
    other.call("SELECT idempotent_run('op', 'won', to_jsonb($1::text), 'public.echo(jsonb)')");
    ear.call("SELECT idempotent_claim('op', 'won', to_jsonb($1::text))");
    ear.plain("ROLLBACK");
    other.has_heard_nothing();
    // A row that got there past the locks.
    ear.plain("BEGIN; SELECT idempotent_claim('op', 'foreign', '1')");
    ear.plain("INSERT INTO idempotent.record SELECT (jsonb_populate_record(r, jsonb_build_object('key', 'foreign', 'record_id',
               idempotent_derive_key('op', 'foreign', 'x')))).* FROM idempotent.record AS r WHERE r.key = 'kept'");
    ear.plain("ROLLBACK");
    // A backend that dies with all of it in its hands.
    let mut victim = Ear::new(scratch.server());
    victim.plain("BEGIN");
    victim.call(&format!("SELECT idempotent_claim('op', 'dying', {answer})"));
    victim.call(&format!("SELECT idempotent_complete('op', 'dying', {answer})"));
    victim.has_heard_nothing();
    cluster.kill_a_backend().expect("a crash");
}

/// Constraints of an administrator's on the tables of records: what they refuse is shown to nobody.
fn try_constraints(scratch: &Scratch) -> BTreeSet<String> {
    let (mut admin, mut operator) = (
        Ear::new(scratch.server()),
        Ear::new(&Server { user: "operator".into(), ..scratch.server().clone() }),
    );
    admin.call(
        "SELECT idempotent_run('op', 'constrained', to_jsonb($1::text), 'public.echo(jsonb)')",
    );
    admin.plain(
        "ALTER TABLE idempotent.record_logged ADD CONSTRAINT never CHECK (key <> 'constrained')",
    );
    for ear in [&mut operator, &mut admin] {
        ear.plain("SELECT idempotent_operation('op', durability => 'logged')");
    }
    admin.plain("ALTER TABLE idempotent.record ADD CONSTRAINT never CHECK (expires_at = 'infinity') NOT VALID");
    admin.call(
        "SELECT idempotent_claim('op', 'to be lapsed', to_jsonb($1::text), lease => '1 hour')",
    );
    admin.call("SELECT idempotent_checkpoint('op', 'to be lapsed', to_jsonb($1::text), fence => (SELECT fence FROM idempotent.record WHERE key = 'to be lapsed'))");
    operator.plain("SELECT idempotent_operation('op', on_lapse => 'retry')");
    admin.plain("ALTER TABLE idempotent.record DROP CONSTRAINT never; ALTER TABLE idempotent.record_logged DROP CONSTRAINT never");
    // One on the body itself, which the executor is not asked about, and an index on it, which is maintained.
    admin.plain("CREATE UNIQUE INDEX twice ON idempotent.record (response)");
    for key in ["once", "twice"] {
        admin.call(&format!(
            "SELECT idempotent_run('op', '{key}', to_jsonb($1 || ' twice'), 'public.echo(jsonb)')"
        ));
    }
    admin.plain("DROP INDEX idempotent.twice");
    operator.has_heard_nothing();
    admin.has_heard_nothing();
    &operator.codes | &admin.codes
}

/// What is shown to those who may look at numbers, and what a dump carries.
fn look_around(scratch: &Scratch) {
    let mut admin = scratch.wire();
    admin.run("ANALYZE; CREATE ROLE monitor LOGIN IN ROLE pg_monitor");
    let mut monitor = Server { user: "monitor".into(), ..scratch.server().clone() }.wire();
    let views = members::relations(&mut admin).into_iter().filter(|relation| relation.kind == "v");
    let views: Vec<String> =
        views.map(|view| view.name).chain(["pg_stats".into(), "pg_stat_activity".into()]).collect();
    for view in views {
        let shown = format!("{:?}", monitor.run(&format!("TABLE {view}")).rows);
        assert!(!shown.contains(MARKER), "{view}: {shown}");
    }
    assert!(
        format!("{:?}", admin.run("TABLE pg_stats").rows).contains(MARKER),
        "a superuser sees what ANALYZE has seen"
    );
    let programs = std::env::var("PGBIN").expect("the directory of Postgres' programs");
    let server = scratch.server();
    for arguments in [&[][..], &["-t", "idempotent.*"], &["--data-only", "-n", "idempotent"]] {
        let dump = Command::new(format!("{programs}/pg_dump"))
            .env("LD_LIBRARY_PATH", format!("{programs}/../lib"))
            .args([
                "-h",
                &server.directory.display().to_string(),
                "-p",
                &server.port.to_string(),
                "-U",
                &server.user,
            ])
            .args(arguments)
            .arg(&server.database)
            .output()
            .expect("pg_dump");
        assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
        assert!(!String::from_utf8_lossy(&dump.stdout).contains(MARKER), "pg_dump {arguments:?}");
    }
}

fn is_quiet(cluster: &Cluster) {
    let hex: String = MARKER.bytes().map(|byte| format!("{byte:02x}")).collect();
    for secret in [MARKER, &hex] {
        let lines = cluster.said(&[secret]).expect("the log");
        assert!(
            lines.is_empty(),
            "{} lines, the first: {:#?}",
            lines.len(),
            &lines[..lines.len().min(5)]
        );
    }
}

#[test]
fn no_body_reaches_the_log_or_anybody_who_may_not_see_it() {
    let cluster = Cluster::start(LOUD).expect("a server");
    let scratch = Scratch::bare_on(cluster.server(), "");
    let mut admin = scratch.wire();
    admin.run(STATES);
    let mut ear = Ear::new(scratch.server());
    for lease in LEASES {
        ear.call(lease);
    }
    ear.has_heard_nothing();
    wait_until("the lease has lapsed", || {
        admin.run("SELECT outcome FROM idempotent_replay('op', 'lapsed')").value() == "unknown"
    });
    admin.run("CREATE TABLE public.fences AS SELECT operation, key, fence FROM idempotent.record; GRANT SELECT ON public.fences TO PUBLIC");
    let functions = members::functions(&mut admin);
    let mut codes = BTreeSet::new();
    for user in ["postgres", "stranger", "granted"] {
        let mut ear = Ear::new(&Server { user: user.into(), ..scratch.server().clone() });
        assert_eq!(try_bodies(&mut ear, &functions), 30, "arguments that are bodies");
        ear.has_heard_nothing();
        codes.append(&mut ear.codes);
    }
    let mut ear = Ear::new(scratch.server());
    try_accidents(&mut ear, &scratch, &cluster);
    ear.has_heard_nothing();
    codes.append(&mut ear.codes);
    let refused = try_constraints(&scratch);
    assert!(
        refused.contains(SqlState::CHECK_VIOLATION.code()),
        "no constraint was violated: {refused:?}"
    );
    // Bodies that are evicted, and records that are swept.
    expire(&scratch);
    look_around(&scratch);
    is_quiet(&cluster);
    for expected in [
        "ID001", "ID002", "ID003", "ID005", "ID006", "ID007", "ID008", "ID009", "25006", "40001",
        "42501", "54000",
    ] {
        assert!(codes.contains(expected), "nothing was refused with {expected}: {codes:?}");
    }
    // It is no wonder where nothing is said.
    for words in ["DEBUG:  00000: parse", "idempotent_complete", "ERROR:  ID007", "server process"]
    {
        assert!(
            !cluster.said(&[words]).expect("the log").is_empty(),
            "the log does not say {words}"
        );
    }
}

fn expire(scratch: &Scratch) {
    let mut ear = Ear::new(scratch.server());
    ear.plain(
        "SELECT idempotent_operation('swept', retention => '1 second'),
                idempotent_operation('evicted', response_retention => '1 millisecond')",
    );
    // The last one stays, for ANALYZE to see.
    for operation in ["swept", "evicted", "analyzed"] {
        ear.call(&format!(
            "SELECT idempotent_run('{operation}', 'k', to_jsonb($1::text), 'public.echo(jsonb)')"
        ));
    }
    ear.has_heard_nothing();
    let seen = "SELECT coalesce(sum(evicted), 0) > 0 AND coalesce(sum(swept), 0) > 0
        FROM idempotent.stats WHERE operation IN ('swept', 'evicted')";
    let mut admin = scratch.wire();
    wait_until("one is evicted and the other deleted", || admin.run(seen).value() == "t");
}
