//! Calls of a topic as SQL, each in its role, and what is left of the messages.

use client::connect::Server;
use client::wire::quote;

use crate::Result;
use crate::pattern::Trace;
use crate::pattern::topic::{How, Role, Topic};

/// Roles are the server's, and its databases come one by one.
pub const SETUP: &str = "
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY '{history_sender,history_relay,history_outsider}'::text[] LOOP
        IF to_regrole(name) IS NULL THEN
            EXECUTE format('CREATE ROLE %I', name);
        END IF;
        PERFORM idempotent_grant(name::regrole);
        EXECUTE format('GRANT EXECUTE ON FUNCTION idempotent_outbox_take, idempotent_outbox_ack, idempotent_outbox_release TO %I', name);
    END LOOP;
END $$;
SELECT idempotent_operation('post', role => 'history_sender', take_role => 'history_relay', wait => '50 ms', retention => '1 day');
";

/// How many statements it is: the role is the statement's own.
pub const STATEMENTS: usize = 3;

pub fn statement(topic: &Topic) -> String {
    let role = match topic.role {
        Role::Sender => "history_sender",
        Role::Relay => "history_relay",
        Role::Outsider => "history_outsider",
    };
    let ids = |messages: &[(u64, String)]| {
        let ids: Vec<&str> = messages.iter().map(|(_, id)| id.as_str()).collect();
        quote(&format!("{{{}}}", ids.join(",")))
    };
    let call = match &topic.how {
        // Its owner is its lane.
        How::Put { lane, number } => format!(
            "SELECT idempotent_outbox_put('post', '{{\"number\": {number}}}', key => '{lane}', scope => '{lane}')"
        ),
        How::Take { batch, lease_ms } => format!(
            "SELECT concat(max(t.fence), '|', string_agg(concat(t.payload->>'number', '=', t.message_id), ',' ORDER BY t.nth)) \
             FROM idempotent_outbox_take('post', {batch}, lease => '{lease_ms} ms') WITH ORDINALITY \
             AS t (message_id, fence, key, payload, attempt, put_at, lease_until, nth)"
        ),
        How::Ack { messages, fence } => {
            format!("SELECT idempotent_outbox_ack('post', {}::uuid[], {fence})", ids(messages))
        }
        How::Release { messages, fence } => {
            format!("SELECT idempotent_outbox_release('post', {}::uuid[], {fence})", ids(messages))
        }
    };
    format!("SET LOCAL ROLE {role}; {call}; RESET ROLE")
}

pub fn traces(server: &Server) -> Result<Vec<Trace>> {
    let waiting = "SELECT (payload->>'number')::bigint FROM idempotent.outbox_message
                    WHERE topic = 'post' AND idempotent.owns(slot)";
    let rows = server.client()?.query(waiting, &[])?;
    (rows.iter())
        .map(|row| Ok(Trace::Waiting { message: u64::try_from(row.get::<_, i64>(0))? }))
        .collect()
}
