//! Operations, scopes and keys of every length, in databases of three encodings: each call gives an answer or a
//! documented SQLSTATE, and the record id is the one that the domain makes of the same text without a server.

use std::fmt::{self, Write as _};

use client::cluster::Result;
use client::wire::{Reply, Wire};
use domain::budget::Budget;
use domain::names::{allowed, parts};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use rules::identity::Identity;
use rules::names::{MAX_KEY, MAX_OPERATION, MAX_SCOPE};

use crate::hex::uuid;
use crate::stage::{self, Stage};

const ENCODINGS: [&str; 3] = ["UTF8", "LATIN1", "SQL_ASCII"];
/// What a call may answer that has a good identity, beside an outcome.
const DOCUMENTED: [&str; 11] = [
    "55000", "ID001", "ID002", "ID003", "ID004", "ID005", "ID006", "ID007", "ID008", "ID009",
    "22023",
];

#[derive(Clone)]
struct Case {
    encoding: usize,
    /// Operation, scope and key, as bytes of the database's encoding.
    parts: [Vec<u8>; 3],
    label: Vec<u8>,
}

/// As one would type it.
impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = literal(&self.label);
        write!(f, "in {}: {}, label {label}", ENCODINGS[self.encoding], call(self, "f", ""))
    }
}

/// How many there were of each kind.
#[derive(Default)]
struct Seen {
    good: u64,
    bad: u64,
    no_text: u64,
}

fn cases() -> BoxedStrategy<Case> {
    let operation = prop_oneof![4 => Just(b"op".to_vec()), 2 => parts()];
    let scope = prop_oneof![1 => Just(Vec::new()), 2 => parts()];
    let uuid = "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
        .prop_map(String::into_bytes);
    let key = prop_oneof![6 => parts(), 1 => uuid];
    (0..ENCODINGS.len(), operation, scope, key, parts())
        .prop_map(|(encoding, operation, scope, key, label)| {
            // U+0000 is in no text of Postgres'.
            let sound =
                |text: Vec<u8>| text.into_iter().filter(|byte| *byte != 0).collect::<Vec<u8>>();
            Case { encoding, parts: [operation, scope, key].map(sound), label: sound(label) }
        })
        .boxed()
}

pub fn run(stage: &Stage, budget: Budget) -> Result<String> {
    let (mut servers, mut wires) = (Vec::new(), Vec::new());
    for encoding in ENCODINGS {
        let options =
            format!("TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'");
        servers.push(stage.database(&format!("texts_{}", encoding.to_lowercase()), &options)?);
        wires.push(servers[servers.len() - 1].wire());
    }
    let mut seen = Seen::default();
    let cases = budget.spend(&cases(), &mut |case| {
        let wire = &mut wires[case.encoding];
        let result = judge(wire, &case, &mut seen);
        if result.is_err() {
            // Smaller cases are tried next, and none of them in what this one has left.
            *wire = stage::again(&servers[case.encoding]);
        }
        result
    })?;
    let Seen { good, bad, no_text } = seen;
    if good == 0 || bad == 0 || no_text == 0 {
        return Err(format!(
            "of {cases} cases {good} were good, {bad} bad, {no_text} no text: nothing was proved"
        )
        .into());
    }
    Ok(format!(
        "{cases} names in {}: {good} taken, {bad} refused with ID006, {no_text} no text of their database",
        ENCODINGS.join(", ")
    ))
}

fn judge(wire: &mut Wire, case: &Case, seen: &mut Seen) -> TestCaseResult {
    let utf8 = case.parts.each_ref().map(|part| in_utf8(part, case.encoding));
    let [Some(operation), Some(scope), Some(key)] = &utf8 else {
        seen.no_text += 1;
        return no_text_of_postgres(wire, case);
    };
    let limits = [(operation, 1, MAX_OPERATION), (scope, 0, MAX_SCOPE), (key, 1, MAX_KEY)];
    if limits.into_iter().all(|(part, least, most)| allowed(part, least, most)) {
        seen.good += 1;
        let identity = Identity::new(Some(operation), Some(scope), Some(key))
            .map_err(|error| TestCaseError::fail(error.message))?;
        a_good_identity(wire, case, &identity)
    } else {
        seen.bad += 1;
        a_bad_identity(wire, case)
    }
}

/// The text in UTF-8, as a key is measured and hashed; `None` for what is no text of the database.
fn in_utf8(bytes: &[u8], encoding: usize) -> Option<Vec<u8>> {
    match ENCODINGS[encoding] {
        "UTF8" => std::str::from_utf8(bytes).ok().map(|text| text.as_bytes().to_vec()),
        "LATIN1" => Some(bytes.iter().copied().map(char::from).collect::<String>().into_bytes()),
        _ => Some(bytes.to_vec()),
    }
}

/// A literal of exactly these bytes, whatever the client's encoding.
fn literal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::from("E'"), |mut sql, byte| {
        match byte {
            b'\'' | b'\\' | ..0x20 | 0x7f.. => {
                // Writing to a String cannot fail.
                let _ = write!(sql, "\\x{byte:02x}");
            }
            byte => sql.push(char::from(*byte)),
        }
        sql
    }) + "'"
}

/// `function(operation, key, more, scope => scope)`
fn call(case: &Case, function: &str, more: &str) -> String {
    let [operation, scope, key] = case.parts.each_ref().map(|part| literal(part));
    format!("{function}({operation}, {key}{more}, scope => {scope})")
}

fn ask(wire: &mut Wire, sql: &str) -> std::result::Result<Reply, TestCaseError> {
    let reply = wire.call(sql);
    prop_assert_ne!(reply.transaction, 'X', "the connection was closed: {}", sql);
    Ok(reply)
}

fn no_text_of_postgres(wire: &mut Wire, case: &Case) -> TestCaseResult {
    let reply = ask(wire, &format!("SELECT {}", call(case, "idempotent_replay", "")))?;
    prop_assert_eq!(reply.code(), "22021");
    Ok(())
}

/// Refused by every function, whatever else it is given, and nothing of it disturbs the message.
fn a_bad_identity(wire: &mut Wire, case: &Case) -> TestCaseResult {
    for (function, more) in [
        ("idempotent_claim", ""),
        ("idempotent_complete", ", 'null'"),
        ("idempotent_fail", ""),
        ("idempotent_release", ""),
        ("idempotent_extend", ", '1 s'"),
        ("idempotent_checkpoint", ", '1'"),
        ("idempotent_replay", ""),
        ("idempotent_run", ", '1', '0'"),
        ("idempotent_explain", ""),
        ("idempotent_derive_key", ", 'label'"),
        ("idempotent_seal", ""),
        ("idempotent_resolve", ", 'absent'"),
        ("idempotent_forget", ""),
    ] {
        let reply = ask(wire, &format!("SELECT {}", call(case, function, more)))?;
        prop_assert_eq!(reply.code(), "ID006", "{}: {:?}", function, reply);
    }
    Ok(())
}

fn a_good_identity(wire: &mut Wire, case: &Case, identity: &Identity<'_>) -> TestCaseResult {
    let id = identity.record_id();
    let said =
        ask(wire, &format!("SELECT {} ->> 'record_id'", call(case, "idempotent_explain", "")))?;
    // A key of an SQL_ASCII database that is no text may have an error instead.
    if said.refusal.is_none() {
        prop_assert_eq!(said.value(), uuid(id.0), "the record id");
    } else {
        prop_assert_eq!(said.code(), "ID006");
    }
    let [_, scope, key] = case.parts.each_ref().map(|part| literal(part));
    let shard = ask(wire, &format!("SELECT idempotent_shard({key}, 1000, {scope})"))?;
    let expected = rules::slot::shard(identity.slot(), 1000);
    prop_assert_eq!(shard.value(), expected.to_string());
    if let Some(label) = in_utf8(&case.label, case.encoding).filter(|label| !label.is_empty()) {
        let more = format!(", {}", literal(&case.label));
        let derived = ask(wire, &format!("SELECT {}", call(case, "idempotent_derive_key", &more)))?;
        prop_assert_eq!(derived.value(), uuid(id.derive(&label)), "the derived key");
    }
    // A life, then another, both undone: whatever the answer is, it is one that is documented.
    let strict = ", strict => true";
    for life in [
        vec![
            ("(idempotent_claim", ""),
            ("idempotent_complete", ", '{}'"),
            ("(idempotent_claim", strict),
            ("(idempotent_claim", ", '1', strict => true"),
            ("idempotent_forget", ""),
        ],
        vec![
            ("(idempotent_claim", ", lease => '1 hour'"),
            ("idempotent_complete", ""),
            ("idempotent_extend", ", '1 s', fence => 1"),
            ("idempotent_release", ", fence => 1"),
        ],
        vec![
            ("(idempotent_seal", ""),
            ("(idempotent_claim", strict),
            ("(idempotent_resolve", ", 'failed'"),
        ],
        vec![("(idempotent_run", ", '1', 'fuzz_no_such_handler'")],
        vec![("idempotent_fail", ""), ("idempotent_explain", "")],
    ] {
        ask(wire, "BEGIN")?;
        for (function, more) in life {
            let sql = call(case, function, more);
            let sql = if function.starts_with('(') {
                format!("SELECT {sql}).outcome")
            } else {
                format!("SELECT {sql}")
            };
            let reply = ask(wire, &format!("SAVEPOINT s; {sql}"))?;
            if let Some(refusal) = &reply.refusal {
                let no_handler = function == "(idempotent_run" && refusal.code == "42883";
                prop_assert!(
                    no_handler || DOCUMENTED.contains(&refusal.code.as_str()),
                    "{}: {:?}",
                    sql,
                    refusal
                );
                prop_assert!(!refusal.message.contains(char::is_control));
                ask(wire, "ROLLBACK TO s")?;
            }
        }
        let end = ask(wire, "ROLLBACK")?;
        prop_assert_eq!(end.transaction, 'I');
    }
    Ok(())
}
