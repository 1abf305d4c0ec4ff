//! What is remembered and what is known to be forgotten when the server has crashed, or was made from another one.

use std::sync::{Arc, Barrier};
use std::thread;

use client::cluster::Result;
use client::watch::wait_until;
use client::wire::quote;
use client::{Backup, Cluster, Wire};

const PRELOADED: &str = "
    shared_preload_libraries = 'pg_idempotent'
    idempotent.sweep_interval = '100ms'";
const INSTALL: &str = "
    CREATE EXTENSION pg_idempotent;
    CREATE FUNCTION work(request jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT request';
    SELECT idempotent_operation('kept', durability => 'logged')";
/// Without an operation, whose change uses both tables.
const INSTALL_UNUSED: &str = "
    CREATE EXTENSION pg_idempotent;
    CREATE FUNCTION work(request jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT request'";

/// What was done while nothing was lost yet: three keys run by each operation, and two that were never heard of.
struct Past {
    dated: String,
    unheard: String,
    at: String,
}

impl Past {
    fn of(wire: &mut Wire) -> Self {
        let key = "SELECT idempotent_new_key()";
        let past = Self {
            dated: wire.run(key).value().to_owned(),
            unheard: wire.run(key).value().to_owned(),
            at: wire.run("SELECT clock_timestamp()").value().to_owned(),
        };
        for operation in ["op", "kept"] {
            assert_eq!(run(wire, operation, &past.dated, ""), "executed");
            assert_eq!(run(wire, operation, "sent", &past.sent()), "executed");
            assert_eq!(run(wire, operation, "undated", ""), "executed");
        }
        past
    }

    fn sent(&self) -> String {
        format!(", first_sent => {}", quote(&self.at))
    }

    /// What must be true once the unlogged records are lost.
    fn is_lost(&self, wire: &mut Wire) {
        assert_eq!(run(wire, "op", &self.dated, ""), "unknown");
        assert_eq!(run(wire, "op", "sent", &self.sent()), "unknown");
        // Nobody can tell that these never ran.
        assert_eq!(run(wire, "op", &self.unheard, ""), "unknown");
        assert_eq!(run(wire, "op", "unheard", &self.sent()), "unknown");
        assert_eq!(run(wire, "op", "undated", ""), "executed");
        self.is_kept(wire, "kept");
        // What is made from now on is as good as ever; keys are dated by milliseconds.
        let later = "SELECT idempotent_new_key(clock_timestamp() + '1 ms')";
        let new = wire.run(later).value().to_owned();
        assert_eq!(run(wire, "op", &new, ""), "executed");
        assert_eq!(run(wire, "op", &new, ""), "replay");
        assert_eq!(run(wire, "op", "sent now", ", first_sent => clock_timestamp()"), "executed");
    }

    /// What must be true of an operation whose records are there.
    fn is_kept(&self, wire: &mut Wire, operation: &str) {
        assert_eq!(run(wire, operation, &self.dated, ""), "replay");
        assert_eq!(run(wire, operation, "sent", &self.sent()), "replay");
        assert_eq!(run(wire, operation, "undated", ""), "replay");
    }

    /// The reset is noted once, with its time, and the log has said once what it means.
    fn is_told(&self, cluster: &Cluster, wire: &mut Wire) -> Result<()> {
        let resets = wire.run(&format!(
            "SELECT count(*), bool_and(durability = 'unlogged'), bool_and(reset_at > {}), bool_and(reset_at <= noticed_at),
                    max(reset_at) = (SELECT last_reset FROM idempotent.health)
             FROM idempotent.reset WHERE reset_at IS NOT NULL",
            quote(&self.at)
        ));
        let yes = Some("t".to_owned());
        assert_eq!(
            resets.row(),
            [Some("1".to_owned()), yes.clone(), yes.clone(), yes.clone(), yes]
        );
        let warnings = cluster.said(&["WARNING:", "idempotency records"])?;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(
            warnings[0]
                .contains(r#"unlogged idempotency records of database "postgres" were lost at"#),
            "{warnings:?}"
        );
        assert_eq!(cluster.said(&["HINT:", "running twice", "durability => 'logged'"])?.len(), 1);
        Ok(())
    }
}

fn run(wire: &mut Wire, operation: &str, key: &str, more: &str) -> String {
    let (operation, key) = (quote(operation), quote(key));
    wire.run(&format!(
        "SELECT outcome FROM idempotent_run({operation}, {key}, '1', 'work(jsonb)'{more})"
    ))
    .value()
    .to_owned()
}

fn resets(wire: &mut Wire) -> String {
    wire.run("SELECT count(*) FROM idempotent.reset WHERE reset_at IS NOT NULL").value().to_owned()
}

#[test]
fn a_crash_of_the_server_is_noticed() -> Result<()> {
    let cluster = Cluster::start("")?;
    cluster.server().wire().run(INSTALL);
    let past = Past::of(&mut cluster.server().wire());
    cluster.crash()?;
    cluster.resume()?;
    let mut wire = cluster.server().wire();
    past.is_lost(&mut wire);
    past.is_told(&cluster, &mut wire)?;
    // Another session learns of it without noting it again.
    let mut wire = cluster.server().wire();
    assert_eq!(run(&mut wire, "op", &past.dated, ""), "unknown");
    past.is_told(&cluster, &mut wire)
}

#[test]
fn a_move_tells_of_a_loss_that_nobody_has_noticed_yet() -> Result<()> {
    let cluster = Cluster::start("")?;
    let mut wire = cluster.server().wire();
    wire.run(INSTALL);
    Past::of(&mut wire);
    let told = "SELECT string_agg(e -> 'row' ->> 'durability', ' ') FROM idempotent_export('{[0,16384)}') AS e
                 WHERE e ->> 'table' = 'reset'";
    wire.run("SELECT idempotent_own('{}')");
    assert_eq!(wire.run(told).value(), "");
    cluster.crash()?;
    cluster.resume()?;
    let mut wire = cluster.server().wire();
    assert_eq!(wire.run(told).value(), "unlogged");
    assert_eq!(resets(&mut wire), "0", "an export notes nothing");
    Ok(())
}

#[test]
fn a_backend_killed_with_signal_9_is_noticed() -> Result<()> {
    let cluster = Cluster::start("")?;
    cluster.server().wire().run(INSTALL);
    let past = Past::of(&mut cluster.server().wire());
    cluster.kill_a_backend()?;
    let mut wire = cluster.server().wire();
    past.is_lost(&mut wire);
    past.is_told(&cluster, &mut wire)
}

#[test]
fn a_start_from_a_base_backup_is_noticed() -> Result<()> {
    let cluster = Cluster::start("")?;
    cluster.server().wire().run(INSTALL);
    let past = Past::of(&mut cluster.server().wire());
    let restored = cluster.backup(Backup::Restored, "")?;
    let mut wire = restored.server().wire();
    past.is_lost(&mut wire);
    past.is_told(&restored, &mut wire)?;
    // The one it was taken from has lost nothing.
    let mut wire = cluster.server().wire();
    past.is_kept(&mut wire, "op");
    assert_eq!(resets(&mut wire), "0");
    Ok(())
}

#[test]
fn a_clean_restart_loses_nothing() -> Result<()> {
    for settings in ["", PRELOADED] {
        let cluster = Cluster::start(settings)?;
        cluster.server().wire().run(INSTALL);
        let past = Past::of(&mut cluster.server().wire());
        cluster.stop()?;
        cluster.resume()?;
        let mut wire = cluster.server().wire();
        past.is_kept(&mut wire, "op");
        past.is_kept(&mut wire, "kept");
        assert_eq!(run(&mut wire, "op", &past.unheard, ""), "executed");
        assert_eq!(resets(&mut wire), "0");
        assert!(cluster.said(&["WARNING:"])?.is_empty());
    }
    Ok(())
}

#[test]
fn the_sweeper_notices_a_crash_before_anybody_calls() -> Result<()> {
    let cluster = Cluster::start(PRELOADED)?;
    cluster.server().wire().run(INSTALL);
    let past = Past::of(&mut cluster.server().wire());
    cluster.crash()?;
    cluster.resume()?;
    let mut wire = cluster.server().wire();
    wait_until("the sweeper has noted the reset", || resets(&mut wire) == "1");
    past.is_told(&cluster, &mut wire)?;
    past.is_lost(&mut wire);
    past.is_told(&cluster, &mut wire)
}

#[test]
fn a_standby_answers_for_logged_operations_and_notices_its_promotion() -> Result<()> {
    let launchers =
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_idempotent launcher'";
    let primary = Cluster::start(PRELOADED)?;
    primary.server().wire().run(INSTALL);
    let standby = primary.backup(Backup::Standby, "")?;
    let mut wire = primary.server().wire();
    let past = Past::of(&mut wire);
    wait_until("the primary's launcher runs", || wire.run(launchers).value() == "1");
    let written = wire.run("SELECT pg_current_wal_flush_lsn()").value().to_owned();
    let mut wire = standby.server().wire();
    wait_until("the standby has caught up", || {
        wire.run(&format!("SELECT pg_last_wal_replay_lsn() >= {}", quote(&written))).value() == "t"
    });

    for key in [&past.dated, "sent", "undated"] {
        let replay = format!("SELECT outcome FROM idempotent_replay('kept', {})", quote(key));
        assert_eq!(wire.run(&replay).value(), "replay");
    }
    assert_eq!(wire.run("SELECT outcome FROM idempotent_replay('kept', 'new')").value(), "absent");
    for refused in [
        "idempotent_replay('op', 'undated')",
        "idempotent_claim('kept', 'new')",
        "idempotent_claim('kept', 'undated', '1')",
        "idempotent_claim('op', 'new')",
        "idempotent_claim('op', 'new', lease => '1 minute')",
        "idempotent_run('op', 'new', '1', 'work(jsonb)')",
        "idempotent_run('kept', 'undated', '1', 'work(jsonb)')",
        "idempotent_complete('kept', 'new', '1')",
        "idempotent_fail('kept', 'new', '1')",
        "idempotent_release('kept', 'new')",
        "idempotent_extend('kept', 'new', '1 minute', fence => 1)",
        "idempotent_checkpoint('kept', 'new', '1', fence => 1)",
        "idempotent_seal('kept', 'new')",
        "idempotent_resolve('kept', 'new', 'absent')",
        "idempotent_forget('kept', 'undated')",
        "idempotent_sweep()",
        "idempotent_operation('kept', retention => '1 hour')",
    ] {
        assert_eq!(wire.call(&format!("SELECT {refused}")).code(), "25006", "{refused}");
    }
    assert_eq!(wire.run(launchers).value(), "0", "nobody sweeps a standby");
    assert_eq!(resets(&mut wire), "0");

    standby.promote()?;
    wait_until("the launcher runs", || wire.run(launchers).value() == "1");
    wait_until("the sweeper has noted the reset", || resets(&mut wire) == "1");
    past.is_lost(&mut wire);
    past.is_told(&standby, &mut wire)?;
    // The old primary goes on as it was.
    past.is_kept(&mut primary.server().wire(), "op");
    Ok(())
}

#[test]
fn a_promotion_is_noticed_without_preload() -> Result<()> {
    let primary = Cluster::start("")?;
    let mut wire = primary.server().wire();
    wire.run(INSTALL);
    let past = Past::of(&mut wire);
    let standby = primary.backup(Backup::Standby, "")?;
    // A session from before the promotion.
    let mut wire = standby.server().wire();
    assert_eq!(
        wire.run("SELECT outcome FROM idempotent_replay('kept', 'undated')").value(),
        "replay"
    );
    standby.promote()?;
    past.is_lost(&mut wire);
    past.is_told(&standby, &mut wire)
}

#[test]
fn sessions_that_notice_at_the_same_time_note_it_once() -> Result<()> {
    const SESSIONS: usize = 16;
    let cluster = Cluster::start("")?;
    cluster.server().wire().run(INSTALL);
    let past = Past::of(&mut cluster.server().wire());
    for round in 1..=3 {
        cluster.crash()?;
        cluster.resume()?;
        let all = Arc::new(Barrier::new(SESSIONS));
        let sessions: Vec<_> = (0..SESSIONS)
            .map(|n| {
                let (mut wire, all, dated) =
                    (cluster.server().wire(), Arc::clone(&all), past.dated.clone());
                thread::spawn(move || {
                    all.wait();
                    assert_eq!(run(&mut wire, "op", &dated, ""), "unknown");
                    assert_eq!(run(&mut wire, "op", &format!("undated {n}"), ""), "executed");
                })
            })
            .collect();
        for session in sessions {
            session.join().expect("a session ends well");
        }
        let mut wire = cluster.server().wire();
        assert_eq!(resets(&mut wire), round.to_string());
        assert_eq!(cluster.said(&["WARNING:", "idempotency records"])?.len(), round);
    }
    Ok(())
}

#[test]
fn nobody_waits_for_a_transaction_that_has_noted_a_reset() -> Result<()> {
    let cluster = Cluster::start("")?;
    cluster.server().wire().run(INSTALL);
    let past = Past::of(&mut cluster.server().wire());
    cluster.crash()?;
    cluster.resume()?;
    let (mut first, mut second) = (cluster.server().wire(), cluster.server().wire());
    // Waiting would end here, and not in the test's own patience.
    second.run("SET statement_timeout = '20s'");
    first.run("BEGIN");
    assert_eq!(run(&mut first, "op", &past.dated, ""), "unknown");
    assert_eq!(run(&mut second, "op", &past.dated, ""), "unknown");
    assert_eq!(run(&mut second, "op", "undated", ""), "executed");
    assert_eq!(resets(&mut second), "0", "it is not committed yet");
    first.run("ROLLBACK");
    // As if nobody had noted it: the next one does.
    assert_eq!(run(&mut second, "op", &past.dated, ""), "unknown");
    assert_eq!(resets(&mut second), "1");
    assert_eq!(run(&mut second, "op", "undated", ""), "replay");
    assert_eq!(run(&mut first, "op", &past.unheard, ""), "unknown");
    assert_eq!(resets(&mut first), "1");
    Ok(())
}

/// The first transaction that ever writes is rolled back, others have written beside it: the table was never emptied.
#[test]
fn a_first_use_that_is_rolled_back_is_no_reset() -> Result<()> {
    let cluster = Cluster::start("")?;
    cluster.server().wire().run(INSTALL_UNUSED);
    let dated = cluster.server().wire().run("SELECT idempotent_new_key()").value().to_owned();
    let sessions = || -> [Wire; 3] { std::array::from_fn(|_| cluster.server().wire()) };
    let [mut first, mut second, mut third] = sessions();
    first.run("BEGIN");
    assert_eq!(run(&mut first, "op", "first", ""), "executed");
    second.run("BEGIN");
    assert_eq!(run(&mut second, "op", "second", ""), "executed");
    assert_eq!(run(&mut third, "op", "third", ""), "executed");
    first.run("ROLLBACK");
    second.run("COMMIT");
    for wire in &mut sessions() {
        assert_eq!(run(wire, "op", "second", ""), "replay");
        assert_eq!(run(wire, "op", "third", ""), "replay");
    }
    assert_eq!(run(&mut first, "op", &dated, ""), "executed");
    assert_eq!(resets(&mut first), "0");
    assert!(cluster.said(&["WARNING:", "idempotency records"])?.is_empty());
    // A real one is none the less noticed.
    first.run("TRUNCATE idempotent.record");
    assert_eq!(run(&mut second, "op", &dated, ""), "unknown");
    assert_eq!(resets(&mut second), "1");
    Ok(())
}

/// The sequence writes its log for every 32nd value, here in a transaction that is rolled back, and an unlogged row makes
/// no commit flush it.
#[test]
fn a_fence_is_not_granted_again_after_a_crash() -> Result<()> {
    let cluster = Cluster::start("wal_writer_delay = 10s")?;
    let mut wire = cluster.server().wire();
    wire.run(INSTALL);
    wire.run("CHECKPOINT");
    let lease =
        |key: &str| format!("SELECT fence FROM idempotent_claim('op', '{key}', lease => '1 hour')");
    wire.run("BEGIN");
    wire.run(&lease("burnt"));
    wire.run("ROLLBACK");
    let before: i64 = wire.run(&lease("held")).value().parse()?;
    // The second time what leapt after the first crash may be lost, too: its commit waits for no flush.
    let mut granted = vec![before];
    for _ in 0..2 {
        cluster.crash()?;
        cluster.resume()?;
        let mut wire = cluster.server().wire();
        wire.run("SET synchronous_commit = off");
        granted.push(wire.run(&lease("held")).value().parse()?);
    }
    assert!(granted.is_sorted_by(|before, after| before < after), "{granted:?}");
    Ok(())
}
