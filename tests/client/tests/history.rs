//! Many clients do what clients do, at random and at once; afterwards the record of what each was told is checked:
//! no key with two effects, no replay that differs from the first answer, no error other than the contract's.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use client::ask::{Answer, claim, complete};
use client::{Reply, Scratch, Wire};

const EFFECTS: &str =
    "CREATE TABLE effect (id bigint GENERATED ALWAYS AS IDENTITY, key text NOT NULL)";

/// What a client was told for a key: the answer, as stored.
type Told = (String, String);

/// The key's effects and everything anybody was told about it agree.
fn judge(scratch: &Scratch, keys: usize, told: &[Told]) {
    let mut admin = scratch.admin();
    let mut effects: HashMap<String, Vec<i64>> = HashMap::new();
    for row in admin.query("SELECT key, id FROM effect", &[]).unwrap() {
        effects.entry(row.get(0)).or_default().push(row.get(1));
    }
    assert_eq!(effects.len(), keys, "every key was done");
    for (key, ids) in &effects {
        assert_eq!(ids.len(), 1, "{key} has one effect: {ids:?}");
    }
    for (key, response) in told {
        assert_eq!(response, &effects[key][0].to_string(), "what was told about {key}");
    }
}

/// Whether the transaction has to be tried again: nothing else may go wrong.
fn is_to_be_retried(reply: &Reply) -> bool {
    assert!(["", "40001"].contains(&reply.code()), "{:?}", reply.refusal);
    !reply.code().is_empty()
}

fn write(wire: &mut Wire, key: &str) -> String {
    wire.run(&format!("INSERT INTO effect (key) VALUES ('{key}') RETURNING id")).value().to_owned()
}

/// One call: claim, write, complete in one transaction. None: it has to be tried again.
fn in_transaction(wire: &mut Wire, key: &str, begin: &str, doomed: bool) -> Option<Told> {
    wire.run(begin);
    let response = claim_write_complete(wire, key);
    if doomed || response.is_none() {
        wire.run("ROLLBACK");
        return None;
    }
    if is_to_be_retried(&wire.call("COMMIT")) {
        return None;
    }
    response.map(|response| (key.to_owned(), response))
}

fn claim_write_complete(wire: &mut Wire, key: &str) -> Option<String> {
    let claimed = wire.call(&claim(key, ", wait => '1 minute'"));
    if is_to_be_retried(&claimed) {
        return None;
    }
    let answer = Answer::of(&claimed);
    match answer.outcome.as_str() {
        "replay" => return Some(answer.response),
        "in_progress" => return None,
        "claimed" => {}
        other => panic!("{other} for {key}"),
    }
    let id = write(wire, key);
    (!is_to_be_retried(&wire.call(&complete(key, &id, "")))).then_some(id)
}

/// One call with a lease: claim and commit, a heartbeat, then write and complete in one transaction. A doomed one dies
/// in between.
fn with_a_lease(wire: &mut Wire, key: &str, lease: &str, doomed: bool) -> Option<Told> {
    let claimed = wire.call(&claim(key, &format!(", lease => '{lease}', wait => '1 minute'")));
    if is_to_be_retried(&claimed) {
        return None;
    }
    let answer = Answer::of(&claimed);
    match answer.outcome.as_str() {
        "replay" => return Some((key.to_owned(), answer.response)),
        "in_progress" => return None,
        "claimed" => {}
        other => panic!("{other} for {key}"),
    }
    let fence = answer.fence();
    let beat = format!("SELECT idempotent_extend('op', '{key}', '{lease}', fence => {fence})");
    if doomed || is_lost(&wire.call(&beat)) {
        return None;
    }
    wire.run("BEGIN");
    let id = write(wire, key);
    if is_lost(&wire.call(&complete(key, &id, &format!(", fence => {fence}")))) {
        wire.run("ROLLBACK");
        return None;
    }
    (!is_to_be_retried(&wire.call("COMMIT"))).then(|| (key.to_owned(), id))
}

/// Whether the lease was over, or the transaction has to be tried again.
fn is_lost(reply: &Reply) -> bool {
    reply.code() == "ID003" || is_to_be_retried(reply)
}

/// `clients` connections make `calls` calls over `keys` keys; `call` is repeated until it brings an answer.
fn many(
    scratch: &Scratch,
    clients: usize,
    calls: usize,
    keys: usize,
    call: impl Fn(&mut Wire, &str, &mut fastrand::Rng) -> Option<Told> + Sync,
) -> Vec<Told> {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|client| {
                let (next, call) = (&next, &call);
                scope.spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(client as u64);
                    let mut wire = scratch.wire();
                    let mut told = Vec::new();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= calls {
                            return told;
                        }
                        let key = format!("key {}", number * keys / calls);
                        told.push(
                            std::iter::repeat_with(|| call(&mut wire, &key, &mut rng))
                                .find_map(|told| told)
                                .expect("an endless iterator"),
                        );
                    }
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no call fails")).collect()
    })
}

fn at_isolation_level(level: &str) {
    let scratch = Scratch::new();
    scratch.admin().batch_execute(EFFECTS).unwrap();
    let begin = format!("BEGIN ISOLATION LEVEL {level}");
    let told = many(&scratch, 12, 1_200, 60, |wire, key, rng| {
        in_transaction(wire, key, &begin, rng.u8(..5) == 0)
    });
    assert_eq!(told.len(), 1_200);
    judge(&scratch, 60, &told);
}

#[test]
fn at_repeatable_read_every_key_has_one_effect() {
    at_isolation_level("REPEATABLE READ");
}

#[test]
fn at_serializable_every_key_has_one_effect() {
    at_isolation_level("SERIALIZABLE");
}

#[test]
fn leases_that_lapse_and_are_taken_over_leave_one_effect_a_key() {
    let scratch = Scratch::new();
    scratch.admin().batch_execute(EFFECTS).unwrap();
    let told = many(&scratch, 12, 600, 60, |wire, key, rng| {
        // From so short that it lapses under its holder's hands to long enough for most.
        let lease = ["2 ms", "5 ms", "20 ms", "60 ms"][rng.usize(..4)];
        with_a_lease(wire, key, lease, rng.u8(..3) == 0)
    });
    judge(&scratch, 60, &told);
}

#[test]
fn leases_and_transactions_of_every_isolation_level_may_compete_for_a_key() {
    let scratch = Scratch::new();
    scratch.admin().batch_execute(EFFECTS).unwrap();
    let told = many(&scratch, 12, 900, 90, |wire, key, rng| {
        let level = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"][rng.usize(..3)];
        wire.run(&format!("SET default_transaction_isolation = '{level}'"));
        if rng.bool() {
            with_a_lease(wire, key, "20 ms", rng.u8(..3) == 0)
        } else {
            in_transaction(wire, key, "BEGIN", rng.u8(..3) == 0)
        }
    });
    judge(&scratch, 90, &told);
}

/// Sets its flag when it goes, also when a test fails: whoever works until then must stop.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn changing_an_operations_durability_under_load_loses_no_record() {
    let scratch = Scratch::new();
    scratch.admin().batch_execute(EFFECTS).unwrap();
    let stop = AtomicBool::new(false);
    let (told, changes) = thread::scope(|scope| {
        let changer = scope.spawn(|| {
            let mut wire = scratch.wire();
            let mut changes = 0;
            while !stop.load(Ordering::Relaxed) {
                let durability = ["logged", "unlogged"][changes % 2];
                let changed = wire.call(&format!(
                    "SELECT idempotent_operation('op', durability => '{durability}')"
                ));
                assert_eq!(changed.code(), "", "{:?}", changed.refusal);
                changes += 1;
            }
            changes
        });
        let done = Done(&stop);
        let told = many(&scratch, 8, 2_000, 200, |wire, key, rng| {
            if rng.u8(..4) == 0 {
                with_a_lease(wire, key, "50 ms", rng.u8(..4) == 0)
            } else {
                in_transaction(wire, key, "BEGIN", rng.u8(..4) == 0)
            }
        });
        drop(done);
        (told, changer.join().expect("the changes succeed"))
    });
    assert!(changes > 2, "the durability was changed under load: {changes}");
    judge(&scratch, 200, &told);
}
