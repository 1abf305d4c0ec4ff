//! Who may do what: every function, table, view, sequence and type of the extension, tried by each role. What comes of it
//! is in access.txt, a line each; an object that has no line fails the test, and so does a line that has no object.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use client::Wire;

use super::{House, OPERATIONS, ROLES, calls, members, try_it};

const EXPECTED: &str = include_str!("access.txt");

/// Something to try, and what came of it for each role.
struct Line {
    what: String,
    answers: Vec<String>,
}

/// What there is to try with a relation, by its kind.
fn actions(relation: &members::Relation) -> Vec<(&'static str, String)> {
    let (name, column) = (&relation.name, &relation.first_column);
    let literal = client::wire::quote(name);
    if relation.kind == "S" {
        return vec![
            ("SELECT", format!("SELECT last_value FROM {name}")),
            ("nextval", format!("SELECT nextval({literal})")),
            ("setval", format!("SELECT setval({literal}, 1000)")),
        ];
    }
    vec![
        ("SELECT", format!("SELECT * FROM {name}")),
        ("INSERT", format!("INSERT INTO {name} ({column}) VALUES (NULL)")),
        ("UPDATE", format!("UPDATE {name} SET {column} = NULL")),
        ("DELETE", format!("DELETE FROM {name}")),
        ("TRUNCATE", format!("TRUNCATE {name}")),
        ("LOCK", format!("LOCK TABLE {name} IN ACCESS SHARE MODE")),
        ("COMMENT", format!("COMMENT ON COLUMN {name}.{column} IS 'mine'")),
        ("RULE", format!("CREATE RULE mine AS ON UPDATE TO {name} DO ALSO NOTHING")),
    ]
}

/// Everything there is to try.
fn attempts(house: &House, admin: &mut Wire) -> Vec<(String, String)> {
    let mut attempts = Vec::new();
    let functions = members::functions(admin);
    for (function, call) in calls::of(&functions) {
        let sql = call.sql(function, None);
        let name = &function.identity;
        if call.has_operation() {
            for operation in OPERATIONS {
                attempts.push((format!("{name}: {operation}"), house.on(operation, &sql)));
            }
        } else {
            attempts.push((name.clone(), sql));
        }
    }
    for relation in members::relations(admin) {
        for (action, sql) in actions(&relation) {
            attempts.push((format!("{}: {action}", relation.name), sql));
        }
    }
    for name in members::types(admin) {
        attempts.push((
            format!("type {name}: a column"),
            format!("CREATE TEMPORARY TABLE mine (it {name})"),
        ));
    }
    let make = "CREATE TABLE idempotent.mine (it integer)".to_owned();
    attempts.push(("schema idempotent: a table".to_owned(), make));
    attempts
}

fn try_everything(house: &House) -> Vec<Line> {
    let attempts = attempts(house, &mut house.admin());
    let mut wires = ROLES.map(|role| house.login(role));
    let line = |(what, sql): (String, String)| {
        let answers = wires.iter_mut().map(|wire| try_it(wire, &sql)).collect();
        Line { what, answers }
    };
    attempts.into_iter().map(line).collect()
}

fn as_table(lines: &[Line]) -> String {
    let mut text = ROLES.map(|role| format!("{role:<9}")).concat().trim_end().to_owned() + "\n";
    for line in lines {
        let answers: String = line.answers.iter().map(|answer| format!("{answer:<9}")).collect();
        let _ = writeln!(text, "{answers}{}", line.what);
    }
    text
}

#[test]
fn everything_is_tried_by_everybody() {
    let house = House::new();
    let mut admin = house.admin();
    assert_eq!(members::others(&mut admin), ["schema idempotent"], "kinds that nobody tries");
    let found = as_table(&try_everything(&house));
    if found == EXPECTED {
        return;
    }
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("access.txt");
    fs::write(&kept, &found).expect("a file of what was found");
    let missing = EXPECTED.lines().filter(|line| !found.lines().any(|other| other == *line));
    let new = found.lines().filter(|line| !EXPECTED.lines().any(|other| other == *line));
    let lines: Vec<String> = missing
        .map(|line| format!("- {line}"))
        .chain(new.map(|line| format!("+ {line}")))
        .collect();
    panic!("not as in access.txt (what was found is in {}):\n{}", kept.display(), lines.join("\n"));
}

/// The table says what is; this says what must be, whoever writes the table anew.
#[test]
fn nobody_reaches_an_operation_that_is_another_roles() {
    let house = House::new();
    let functions = members::functions(&mut house.admin());
    let mut tried = 0;
    for (function, call) in calls::of(&functions) {
        // Settings are for administrators, whosever the operation is; keys that are computed touch no record.
        let keyless = [
            "idempotent_operation",
            "idempotent_derive_key",
            "idempotent_slot",
            "idempotent_shard",
        ];
        if !call.has_operation() || keyless.contains(&call.function) {
            continue;
        }
        for role in ROLES {
            let mut wire = house.login(role);
            for operation in ["left", "right"] {
                let answer = try_it(&mut wire, &house.on(operation, &call.sql(function, None)));
                // A CALL, which begins with a COMMIT, is refused to every role in the transaction that everything is
                // tried in.
                let commits = call.function == "idempotent_saga_run" && answer == "2D000";
                let may = commits || role == operation && answer == "ok";
                assert!(
                    may || answer == "42501",
                    "{role} calls {} for {operation}: {answer}",
                    function.identity
                );
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 35 * ROLES.len() * 2, "functions about keys");
}
