//! Calls of the patterns: as SQL, what a client remembers of them, and what they leave behind.

use std::collections::HashMap;

use client::connect::Server;
use client::wire::quote;

use super::sagas;
use super::session::Session;
use super::stage::Stage;
use super::topics;
use crate::Result;
use crate::history::{Call, Line, Operation, Outcome};
use crate::pattern::saga::Saga;
use crate::pattern::topic::{self, How, Topic};
use crate::pattern::{self, Pattern, Trace, Watched};
use crate::plan::patterns::PatternStep;
use crate::plan::topics::TopicStep;

/// What a round's database holds for them. No constraint: nothing but the extension keeps a trace from being left twice.
/// An offset's place is drawn after the offset was accepted.
pub const SETUP: &str = "
CREATE TABLE message_trace (consumer bigint NOT NULL, message bigint NOT NULL, number bigint NOT NULL);
CREATE TABLE offset_trace (place bigserial, partition bigint NOT NULL, position bigint NOT NULL, number bigint NOT NULL);
CREATE TABLE watched_trace (number bigint NOT NULL);
CREATE FUNCTION watch(request jsonb) RETURNS jsonb LANGUAGE sql AS
    $$ INSERT INTO watched_trace SELECT (request->'call'->>'number')::bigint RETURNING to_jsonb(number) $$;
SELECT idempotent_operation('watched', mode => 'observe', fingerprint_exclude => '{call}');
";

/// Numbers and ids.
type Messages = Vec<(u64, String)>;

/// What a client remembers between calls.
#[derive(Default)]
pub struct Memory {
    /// Holder and fence of what was taken last.
    locks: HashMap<u32, (u32, i64)>,
    fences: HashMap<u32, i64>,
    /// What was taken last of the topic: from which node, the fence, and the messages.
    taken: Option<(u32, i64, Messages)>,
}

/// `None`: there was nothing to do.
pub fn play(session: &mut Session<'_>, step: PatternStep) -> Option<Outcome> {
    let memory = &session.memory;
    let pattern = match step {
        PatternStep::First { consumer, messages, count } => {
            let (messages, number) = (messages[..count].to_vec(), session.number());
            Pattern::First { consumer, messages, number }
        }
        PatternStep::Advance { partition, offset } => {
            Pattern::Advance { partition, offset, number: session.number() }
        }
        PatternStep::Lock { resource, holder, ttl_ms } => {
            Pattern::Lock { resource, holder, ttl_ms }
        }
        PatternStep::Unlock { resource } => {
            let (holder, fence) = *memory.locks.get(&resource)?;
            Pattern::Unlock { resource, holder, fence }
        }
        PatternStep::WatchedClaim { key, request, lease_ms } => {
            Pattern::Watched { key, how: Watched::Claim { request, lease_ms } }
        }
        PatternStep::WatchedComplete { key } => {
            let fence = memory.fences.get(&key).copied();
            Pattern::Watched { key, how: Watched::Complete { fence } }
        }
        PatternStep::WatchedRelease { key } => {
            let fence = memory.fences.get(&key).copied();
            Pattern::Watched { key, how: Watched::Release { fence } }
        }
        PatternStep::WatchedRun { key, request } => {
            Pattern::Watched { key, how: Watched::Run { request, number: session.number() } }
        }
        // It commits by itself.
        PatternStep::Saga(Saga::Run { .. }) if session.is_in_transaction() => return None,
        // Of several nodes the one that a saga comes to may know it still.
        PatternStep::Saga(Saga::Forget { .. }) if session.stage.has_nodes() => return None,
        PatternStep::Saga(saga) => Pattern::Saga(saga.numbered(session.number())),
        PatternStep::Topic(role, step) => {
            let how = topic_call(session, step)?;
            Pattern::Topic(Topic { role, how })
        }
    };
    let outcome = session.call(Call::Pattern(pattern.clone()), None);
    let node = session.node();
    session.memory.note(&pattern, &outcome, node);
    Some(outcome)
}

/// A relay acknowledges where it has taken.
fn topic_call(session: &mut Session<'_>, step: TopicStep) -> Option<How> {
    let mut ended = || {
        let (node, fence, messages) = session.memory.taken.clone()?;
        if session.is_in_transaction() && session.node() != node {
            return None;
        }
        session.face_node(node);
        session.connect().then_some((messages, fence))
    };
    Some(match step {
        TopicStep::Put { lane } => How::Put { lane, number: session.number() },
        TopicStep::Take { batch, lease_ms } => How::Take { batch, lease_ms },
        TopicStep::Ack => {
            let (messages, fence) = ended()?;
            How::Ack { messages, fence }
        }
        TopicStep::Release => {
            let (messages, fence) = ended()?;
            How::Release { messages, fence }
        }
    })
}

impl Memory {
    fn note(&mut self, pattern: &Pattern, outcome: &Outcome, node: u32) {
        match (pattern, outcome) {
            (Pattern::Topic(_), _) => {
                if let Some((fence, messages)) = topic::taken(outcome) {
                    self.taken = Some((node, fence, messages));
                }
            }
            (Pattern::Lock { resource, holder, .. }, _) => {
                if let Some(fence) = pattern::fence(outcome) {
                    self.locks.insert(*resource, (*holder, fence));
                }
            }
            (Pattern::Watched { key, how: Watched::Claim { .. } }, Outcome::Done(done)) => {
                let fence = done.split_once(' ').and_then(|(_, fence)| fence.parse().ok());
                self.fences.remove(key);
                self.fences.extend(fence.map(|fence| (*key, fence)));
            }
            _ => {}
        }
    }
}

/// Whatever is asked returns one value, see `pattern::told`, `pattern::fence` and `pattern::other_holder`.
pub fn statement(pattern: &Pattern, operations: &[Operation]) -> String {
    match pattern {
        Pattern::First { consumer, messages, number } => {
            let name = usize::try_from(*consumer).ok().and_then(|at| operations.get(at));
            let name = quote(name.map_or("nobody", |operation| &operation.name));
            let scope = quote(&pattern::scope(*consumer));
            let asked = match messages.as_slice() {
                [message] => {
                    format!(
                        "SELECT '{message}' AS message WHERE idempotent_first({name}, '{message}', {scope})"
                    )
                }
                _ => {
                    let ids: Vec<String> = messages.iter().map(u32::to_string).collect();
                    format!(
                        "SELECT message FROM idempotent_first_of({name}, '{{{}}}'::text[], {scope}) AS message",
                        ids.join(",")
                    )
                }
            };
            format!(
                "WITH asked AS MATERIALIZED ({asked}), done AS (INSERT INTO message_trace SELECT {consumer}, \
                 message::bigint, {number} FROM asked) SELECT coalesce(string_agg(message, ','), '') FROM asked"
            )
        }
        Pattern::Advance { partition, offset, number } => format!(
            "WITH done AS (INSERT INTO offset_trace (partition, position, number) SELECT {partition}, {offset}, {number} \
             WHERE idempotent_advance('reader', '{partition}', {offset}) RETURNING 1) SELECT count(*) = 1 FROM done"
        ),
        Pattern::Lock { resource, holder, ttl_ms } => format!(
            "SELECT CASE WHEN acquired THEN 'fence ' || fence ELSE 'holder ' || holder END \
             FROM idempotent_lock('{resource}', '{holder}', '{ttl_ms} ms')"
        ),
        Pattern::Unlock { resource, holder, fence } => {
            format!("SELECT idempotent_unlock('{resource}', '{holder}', fence => {fence})")
        }
        Pattern::Watched { key, how } => watched(*key, *how),
        Pattern::Saga(saga) => sagas::statement(*saga),
        Pattern::Topic(topic) => topics::statement(topic),
    }
}

fn watched(key: u32, how: Watched) -> String {
    let fenced =
        |fence: Option<i64>| fence.map_or_else(String::new, |fence| format!(", fence => {fence}"));
    match how {
        Watched::Claim { request, lease_ms } => {
            let lease = lease_ms.map_or_else(String::new, |ms| format!(", lease => '{ms} ms'"));
            format!(
                "SELECT concat_ws(' ', outcome, fence) \
                 FROM idempotent_claim('watched', '{key}', '{{\"n\": {request}}}', wait => '1 minute'{lease})"
            )
        }
        Watched::Complete { fence } => {
            format!(
                "SELECT idempotent_complete('watched', '{key}', '{{\"done\": true}}'{})",
                fenced(fence)
            )
        }
        Watched::Release { fence } => {
            format!("SELECT idempotent_release('watched', '{key}'{})", fenced(fence))
        }
        Watched::Run { request, number } => format!(
            "SELECT outcome FROM idempotent_run('watched', '{key}', \
             '{{\"n\": {request}, \"call\": {{\"number\": {number}}}}}', 'watch(jsonb)', wait => '1 minute')"
        ),
    }
}

/// When all is over.
pub fn write_traces(stage: &Stage, server: &Server) -> Result<()> {
    let mut client = server.client()?;
    let mut traces = Vec::new();
    let small = |row: &postgres::Row, at: usize| u32::try_from(row.get::<_, i64>(at));
    let number = |row: &postgres::Row, at: usize| u64::try_from(row.get::<_, i64>(at));
    for row in client.query("SELECT consumer, message, number FROM message_trace", &[])? {
        let (consumer, message) = (small(&row, 0)?, small(&row, 1)?);
        traces.push(Trace::Message { consumer, message, number: number(&row, 2)? });
    }
    for row in client.query("SELECT partition, position, place, number FROM offset_trace", &[])? {
        let (partition, offset, place) = (small(&row, 0)?, row.get(1), row.get(2));
        traces.push(Trace::Offset { partition, offset, place, number: number(&row, 3)? });
    }
    for row in client.query("SELECT number FROM watched_trace", &[])? {
        traces.push(Trace::Watched { number: number(&row, 0)? });
    }
    // What was left behind by a move counts no more.
    let positions = "SELECT partition::bigint, \"offset\" FROM idempotent.offsets
                      WHERE consumer = 'reader' AND idempotent.owns(slot)";
    for row in client.query(positions, &[])? {
        traces.push(Trace::Position { partition: small(&row, 0)?, offset: row.get(1) });
    }
    traces.extend(sagas::traces(server)?);
    traces.extend(topics::traces(server)?);
    for trace in traces {
        stage.record(&Line::Trace(trace));
    }
    Ok(())
}
