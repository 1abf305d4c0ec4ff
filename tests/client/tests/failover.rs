//! A primary dies under load and its standby takes over, and back again: what the clients were told, against what the new
//! primary holds.

use std::sync::Arc;

use client::Wire;
use client::cluster::Result;
use client::failover::{INSTALL, Judge, Ledger, Pair, Traffic, What, finish};
use client::figures::note;
use client::watch::wait_until;
use client::wire::quote;

/// So many answers in a turn, before something happens to it.
const LOAD: usize = 1_500;
const LAUNCHERS: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_idempotent launcher'";

/// How a primary ends.
#[derive(Clone, Copy)]
enum End {
    /// `pg_ctl stop -m immediate`
    Immediate,
    /// `kill -9` of the postmaster
    Killed,
}

/// Under load, the primary dies and the standby is promoted; the clients go on there, and then stop.
fn fail_over(
    pair: &mut Pair,
    ledger: &Arc<Ledger>,
    traffic: Traffic,
    turn: usize,
    end: End,
) -> Result<()> {
    match end {
        End::Immediate => pair.primary.crash()?,
        End::Killed => pair.primary.kill()?,
    }
    traffic.direct(turn, pair.standby.server());
    wait_until("the clients ask the standby and are refused", || {
        ledger.count(turn, |told| told.what == What::Refused("25006".to_owned())) >= 50
    });
    assert_eq!(pair.standby.server().wire().run(LAUNCHERS).value(), "0", "nobody sweeps a standby");
    let errors = "SELECT count(*) FROM idempotent_doctor() WHERE severity = 'error'";
    assert_eq!(pair.standby.server().wire().run(errors).value(), "0", "the doctor sees a standby");
    pair.promote()?;
    wait_for_load(ledger, turn);
    traffic.stop();
    Ok(())
}

/// `LOAD` more answers from now on.
fn wait_for_load(ledger: &Ledger, turn: usize) {
    let before = ledger.answered(turn);
    wait_until("the clients have had their answers", || ledger.answered(turn) >= before + LOAD);
}

/// Every logged key that was answered gives its first answer on a server that only reads.
fn replays_on(wire: &mut Wire, ledger: &Ledger, turn: usize) {
    let told = ledger.all();
    let answered = told.iter().filter(|told| told.turn == turn && told.key.kind.logged);
    for told in answered {
        if let What::Executed(token) | What::Replayed(token) = &told.what {
            let replay = wire.run(&format!(
                "SELECT outcome || ' ' || (response->>'token') FROM idempotent_replay('kept', {})",
                quote(&told.key.key)
            ));
            assert_eq!(replay.value(), format!("replay {token}"), "{told:?}");
        }
    }
}

/// The reset is noted once a turn, the log of the server has said it, and the sweeper works.
fn is_told(pair: &Pair, resets: usize) -> Result<()> {
    let mut wire = pair.primary.server().wire();
    let noted = wire.run(
        "SELECT count(*), max(reset_at) = (SELECT last_reset FROM idempotent.health)
           FROM idempotent.reset WHERE reset_at IS NOT NULL AND durability = 'unlogged'",
    );
    assert_eq!(noted.row(), [Some(resets.to_string()), Some("t".to_owned())]);
    wait_until("the launcher runs", || wire.run(LAUNCHERS).value() == "1");
    let swept = "SELECT last_sweep > now() - interval '1 minute' FROM idempotent.health";
    wait_until("the sweeper works", || wire.run(swept).value() == "t");
    Ok(())
}

/// A lease that was granted before the failover: its holder finishes the work of a logged operation, and learns that an
/// unlogged one is lost.
fn leases_end(judge: &Judge, wire: &mut Wire, turn: usize) {
    let open = judge.open_leases(turn);
    for logged in [true, false] {
        let of_kind: Vec<_> = open.iter().filter(|(key, _)| key.kind.logged == logged).collect();
        assert!(!of_kind.is_empty(), "no lease was left open");
        for (key, fence) in of_kind {
            let what = finish(wire, key, *fence).expect("a connection that lasts");
            if logged {
                assert!(matches!(what, What::Executed(_)), "{key:?}, fence {fence}: {what:?}");
            } else {
                assert_eq!(what, What::Refused("ID003".to_owned()), "{key:?}, fence {fence}");
            }
        }
    }
}

#[test]
fn a_synchronous_standby_takes_over_and_back_and_nothing_acknowledged_is_lost() -> Result<()> {
    let mut pair = Pair::start(INSTALL)?;
    let ledger = Arc::new(Ledger::default());
    let mut resets = 0;
    for (before, end) in [End::Immediate, End::Killed].into_iter().enumerate() {
        let turn = before + 1;
        pair.make_synchronous();
        let traffic = Traffic::start(&ledger, before, pair.primary.server());
        wait_for_load(&ledger, before);
        fail_over(&mut pair, &ledger, traffic, turn, end)?;
        resets += 1;

        let judge = Judge::look(&ledger, &pair.primary.server())?;
        judge.promises_hold();
        let (there, gone) = judge.acknowledged(before);
        assert_eq!(gone, 0, "of {} acknowledged answers", there + gone);
        replays_on(&mut pair.primary.server().wire(), &ledger, before);
        let (unknown, again) = judge.unlogged_is_forgotten(turn);
        assert!(unknown > 0 && again > 0, "too quiet: {unknown} unknown, {again} run again");
        leases_end(&judge, &mut pair.primary.server().wire(), before);
        is_told(&pair, resets)?;
        note(&format!(
            "synchronous, failover {turn}: {there} acknowledged, {gone} lost; then {unknown} unknown, {again} ran again"
        ));

        pair.rejoin()?;
        replays_on(&mut pair.standby.server().wire(), &ledger, turn);
    }
    Ok(())
}

#[test]
fn an_asynchronous_standby_that_lags_keeps_answers_and_rows_together() -> Result<()> {
    let mut pair = Pair::start(INSTALL)?;
    let ledger = Arc::new(Ledger::default());
    let traffic = Traffic::start(&ledger, 0, pair.primary.server());
    wait_for_load(&ledger, 0);
    pair.catch_up();
    pair.cut_off();
    // All of this is lost.
    wait_for_load(&ledger, 0);
    fail_over(&mut pair, &ledger, traffic, 1, End::Immediate)?;

    let judge = Judge::look(&ledger, &pair.primary.server())?;
    judge.promises_hold();
    let (there, gone) = judge.acknowledged(0);
    assert!(there > 0 && gone > 0, "too quiet: {there} survived, {gone} were lost");
    let (unknown, again) = judge.unlogged_is_forgotten(1);
    assert!(unknown > 0 && again > 0, "too quiet: {unknown} unknown, {again} run again");
    is_told(&pair, 1)?;
    note(&format!(
        "asynchronous: {there} acknowledged and there, {gone} lost; then {unknown} unknown, {again} ran again"
    ));

    // What the old primary alone had goes, and it says what the new one says.
    pair.rejoin()?;
    replays_on(&mut pair.standby.server().wire(), &ledger, 1);
    let rows = "SELECT count(*), count(DISTINCT token), md5(string_agg(token::text, ',' ORDER BY token)) FROM effect";
    let (mut old, mut new) = (pair.standby.server().wire(), pair.primary.server().wire());
    assert_eq!(old.run(rows).row(), new.run(rows).row());
    Ok(())
}

/// The first who asks the new primary for a lease asks for one of a logged operation, whose records are all there.
#[test]
fn a_standby_that_lags_grants_no_fence_again() -> Result<()> {
    let mut pair = Pair::start(INSTALL)?;
    pair.catch_up();
    pair.cut_off();
    let lease = |wire: &mut Wire, operation: &str, key: &str| -> i64 {
        let fence = wire.run(&format!(
            "SELECT fence FROM idempotent_claim('{operation}', '{key}', lease => '1 hour')"
        ));
        fence.value().parse().expect("a fence")
    };
    // Of these the standby has heard nothing at all.
    let mut wire = pair.primary.server().wire();
    let before: Vec<i64> = (0..40).map(|n| lease(&mut wire, "kept", &format!("key {n}"))).collect();
    assert_eq!(before[0], 1);
    pair.primary.crash()?;
    pair.promote()?;
    let mut wire = pair.primary.server().wire();
    let mut latest = before[before.len() - 1];
    for (operation, key) in [("kept", "key 39"), ("light", "key 39"), ("kept", "another")] {
        let fence = lease(&mut wire, operation, key);
        assert!(fence > latest, "fence {latest} was granted before, {fence} now");
        latest = fence;
    }
    // The holder of before is told so, and not taken for the new one.
    let late = wire.call(&format!(
        "SELECT idempotent_complete('kept', 'key 39', '1', fence => {})",
        before[39]
    ));
    assert_eq!(late.code(), "ID003");
    Ok(())
}
