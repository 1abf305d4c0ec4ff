//! A call as SQL, and what came back as an outcome.

use client::Reply;
use client::wire::quote;

use super::{patterns, topics};
use crate::answer;
use crate::history::{Call, Dating, Key, Level, Operation, Outcome, Row};
use crate::pattern::Pattern;
use crate::settings::Change;

/// What a round's database holds beside the extension: the effects, and a handler that leaves one.
pub const SETUP: &str = "
CREATE TABLE effect (
    id     bigint PRIMARY KEY,
    key    bigint NOT NULL,
    client bigint NOT NULL,
    fence  bigint,
    epoch  bigint NOT NULL,
    at     timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON effect (key);
CREATE FUNCTION perform(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    call jsonb := request->'call';
    id bigint := (call->>'effect')::bigint;
BEGIN
    INSERT INTO effect (id, key, client, epoch)
    VALUES (id, (call->>'key')::bigint, (call->>'client')::bigint, (call->>'epoch')::bigint);
    IF (call->>'declined')::boolean THEN
        RAISE EXCEPTION 'declined %', id;
    END IF;
    RETURN jsonb_build_object('answer', id, 'effect', id, 'check', id % 1000003);
END $$;
";

const COLUMNS: &str = "outcome, fence, attempt, failed, status, response, checkpoint";

/// The policy of an operation. What differs from call to call is no part of the request.
pub fn policy(operation: &Operation) -> String {
    format!(
        "SELECT idempotent_operation({}, retention => '{ms} ms', failure_retention => '{ms} ms', durability => '{}',
                on_lapse => '{}', store_failures => '{}', fingerprint_exclude => '{{call}}')",
        quote(&operation.name),
        if operation.logged { "logged" } else { "unlogged" },
        if operation.unknown_on_lapse { "unknown" } else { "retry" },
        if operation.stores_failures { "{P0001}" } else { "{}" },
        ms = operation.retention_ms,
    )
}

fn configure(operation: &str, change: Change) -> String {
    let setting = match change {
        Change::Retention { ms } => {
            format!("retention => '{ms} ms', failure_retention => '{ms} ms'")
        }
        Change::OnLapse { unknown } => {
            format!("on_lapse => '{}'", if unknown { "unknown" } else { "retry" })
        }
        Change::KeyDates { used } => {
            format!("key_dates => '{}'", if used { "use" } else { "ignore" })
        }
        Change::Exclude { more } => {
            format!("fingerprint_exclude => '{{call{}}}'", if more { ",more" } else { "" })
        }
    };
    format!("SELECT name FROM idempotent_operation({}, {setting})", quote(operation))
}

pub fn statement(
    call: &Call,
    key: Option<&Key>,
    operations: &[Operation],
    client: u32,
    epoch: i64,
) -> String {
    // The first two arguments of every function.
    let of = || {
        key.map_or_else(String::new, |key| {
            format!("{}, {}", quote(&operations[key.operation].name), quote(&key.text))
        })
    };
    let sent = || match key.map(|key| key.dating) {
        Some(Dating::FirstSent(us)) => {
            format!(", first_sent => 'epoch'::timestamptz + {us} * interval '1 microsecond'")
        }
        _ => String::new(),
    };
    let fenced =
        |fence: &Option<i64>| fence.map_or_else(String::new, |fence| format!(", fence => {fence}"));
    match call {
        Call::Begin { level } => format!(
            "BEGIN ISOLATION LEVEL {}",
            match level {
                Level::ReadCommitted => "READ COMMITTED",
                Level::RepeatableRead => "REPEATABLE READ",
                Level::Serializable => "SERIALIZABLE",
            }
        ),
        Call::Commit => "COMMIT".to_owned(),
        Call::Rollback => "ROLLBACK".to_owned(),
        Call::Savepoint { name } => format!("SAVEPOINT s{name}"),
        Call::RollbackTo { name } => format!("ROLLBACK TO s{name}"),
        Call::ReleaseSavepoint { name } => format!("RELEASE s{name}"),
        Call::Prepare { gid } => format!("PREPARE TRANSACTION {}", quote(gid)),
        Call::CommitPrepared { gid } => format!("COMMIT PREPARED {}", quote(gid)),
        Call::RollbackPrepared { gid } => format!("ROLLBACK PREPARED {}", quote(gid)),
        Call::Claim { request, lease_ms, wait_ms, attempt_id, strict, .. } => {
            let lease = lease_ms.map_or_else(String::new, |ms| format!(", lease => '{ms} ms'"));
            let attempt = attempt_id
                .as_ref()
                .map_or_else(String::new, |id| format!(", attempt_id => '{id}'"));
            format!(
                "SELECT {COLUMNS} FROM idempotent_claim({}, '{{\"n\": {request}}}', wait => '{wait_ms} ms', \
                 strict => {strict}{lease}{attempt}{})",
                of(),
                sent()
            )
        }
        Call::Run { request, wait_ms, effect, declined, strict, key } => format!(
            "SELECT {COLUMNS} FROM idempotent_run({}, '{{\"call\": {{\"key\": {key}, \"client\": {client}, \
             \"epoch\": {epoch}, \"effect\": {effect}, \"declined\": {declined}}}, \"n\": {request}.0}}', \
             'perform(jsonb)', wait => '{wait_ms} ms', strict => {strict}{})",
            of(),
            sent()
        ),
        Call::Effect { key, effect, fence } => {
            let fence = fence.map_or_else(|| "NULL".to_owned(), |fence| fence.to_string());
            format!("INSERT INTO effect VALUES ({effect}, {key}, {client}, {fence}, {epoch})")
        }
        Call::Complete { answer, effect, failed, fence, .. } => format!(
            "SELECT idempotent_{}({}, {}, status => {}{})",
            if *failed { "fail" } else { "complete" },
            of(),
            quote(&answer::response(*answer, *effect).to_string()),
            answer::status(*answer),
            fenced(fence)
        ),
        Call::Release { fence, .. } => {
            format!("SELECT idempotent_release({}{})", of(), fenced(fence))
        }
        Call::Extend { lease_ms, fence, .. } => {
            format!("SELECT idempotent_extend({}, '{lease_ms} ms', fence => {fence})", of())
        }
        Call::Checkpoint { value, fence, .. } => {
            format!("SELECT idempotent_checkpoint({}, '{value}', fence => {fence})", of())
        }
        Call::Seal { .. } => format!("SELECT {COLUMNS} FROM idempotent_seal({})", of()),
        Call::Replay { .. } => format!("SELECT {COLUMNS} FROM idempotent_replay({})", of()),
        Call::Look { effect, .. } => format!("SELECT count(*) FROM effect WHERE id = {effect}"),
        Call::Resolve { answer: None, .. } => {
            format!("SELECT {COLUMNS} FROM idempotent_resolve({}, 'absent')", of())
        }
        Call::Resolve { answer: Some(answer), .. } => format!(
            "SELECT {COLUMNS} FROM idempotent_resolve({}, 'completed', {})",
            of(),
            quote(&answer::response(*answer, None).to_string())
        ),
        Call::Sweep => "SELECT idempotent_sweep(100)".to_owned(),
        Call::Forget { fence, .. } => {
            format!("SELECT idempotent_forget({}{})", of(), fenced(fence))
        }
        Call::Configure { operation, change } => configure(&operations[*operation].name, *change),
        Call::Pattern(pattern) => patterns::statement(pattern, operations),
    }
}

/// The server says its tag after it has committed, and not otherwise; without one it may or may not have.
pub fn outcome(call: &Call, reply: &Reply) -> Outcome {
    // Of several statements the last one's tells that they have committed.
    let statements = match call {
        Call::Pattern(Pattern::Topic(_)) => topics::STATEMENTS,
        _ => 1,
    };
    let Some(tag) = reply.tags.get(statements - 1) else {
        return match &reply.refusal {
            // A refusal after which the connection is gone came from outside, at a moment that nobody knows.
            Some(refusal) if reply.transaction != 'X' => Outcome::Refused(refusal.code.clone()),
            _ => Outcome::Lost,
        };
    };
    match (call, reply.rows.as_slice()) {
        (
            Call::Claim { .. }
            | Call::Run { .. }
            | Call::Seal { .. }
            | Call::Replay { .. }
            | Call::Resolve { .. },
            [row],
        ) => Outcome::Row(Box::new(self::row(row))),
        (Call::Pattern(Pattern::Saga(_)), [row]) => Outcome::Done(join(row)),
        (_, [row]) => Outcome::Done(row.first().cloned().flatten().unwrap_or_default()),
        _ => Outcome::Done(tag.clone()),
    }
}

/// What a procedure returns is a row of several columns.
fn join(columns: &[Option<String>]) -> String {
    let columns: Vec<&str> =
        columns.iter().map(|column| column.as_deref().unwrap_or_default()).collect();
    match columns.as_slice() {
        [outcome, failed, answers, failure] => format!("{outcome}|{failed} {answers} {failure}"),
        columns => columns.join("|"),
    }
}

fn row(columns: &[Option<String>]) -> Row {
    let text = |at: usize| columns.get(at).cloned().flatten();
    let number = |at: usize| text(at).and_then(|text| text.parse().ok());
    let json = |at: usize| text(at).and_then(|text| serde_json::from_str(&text).ok());
    Row {
        outcome: text(0).unwrap_or_default(),
        fence: number(1),
        attempt: number(2),
        failed: text(3).map(|text| text == "t"),
        status: number(4),
        response: json(5),
        checkpoint: json(6),
    }
}
