//! Calls of sagas as SQL, and what their handlers leave behind.

use client::connect::Server;

use crate::Result;
use crate::pattern::Trace;
use crate::pattern::saga::Saga;

/// One saga in four is refused by its last step for good; and each handler may be out of luck, which is not final. A trace has its
/// place in the order of the others: two sessions never work on one saga at a time. The places are those of offsets, which go on
/// above those of another node when slots move.
pub const SETUP: &str = "
CREATE TABLE saga_trace (place bigint NOT NULL DEFAULT nextval('offset_trace_place_seq'),
    saga bigint NOT NULL, step bigint NOT NULL, undone boolean NOT NULL, number bigint);
CREATE FUNCTION travel(x jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    undoes boolean := x ? 'failure';
    leg    bigint  := substr(x->>'step', 2)::bigint;
    mark   bigint;
BEGIN
    INSERT INTO saga_trace (saga, step, undone, number)
    VALUES ((x->>'key')::bigint, leg, undoes, nullif(current_setting('history.number', true), '')::bigint) RETURNING place INTO mark;
    IF NOT undoes AND leg = 2 AND (x->'request'->>'n')::bigint = 0 THEN
        RAISE EXCEPTION 'declined';
    ELSIF random() < 0.1 THEN
        RAISE EXCEPTION 'not now' USING ERRCODE = 'HT001';
    END IF;
    RETURN jsonb_build_object('place', mark);
END $$;
SELECT idempotent_operation('trip', retention => '1 day', failure_retention => '1 day', wait => '50 ms');
SELECT count(*) FROM idempotent_saga('trip', (
    SELECT jsonb_agg(jsonb_build_object('name', 's' || n, 'handler', 'public.travel(jsonb)', 'compensation', 'public.travel(jsonb)',
                                        'final', '[\"P0001\"]'::jsonb))
      FROM generate_series(0, 2) AS n));
";

/// Its columns are one value, see `pattern::saga::end`.
pub fn statement(saga: Saga) -> String {
    let step = |function: &str, arguments: String, number: u64| {
        format!(
            "WITH numbered AS MATERIALIZED (SELECT set_config('history.number', '{number}', true) AS number) \
             SELECT concat(more, '|', outcome, '|', failed, ' ', answers, ' ', failure, '|at|', state, '|', next_step) \
             FROM numbered, {function}(CASE WHEN numbered.number <> '' THEN 'trip' END, {arguments})"
        )
    };
    match saga {
        // What another call of this session left must not be taken for ours.
        Saga::Run { key } => {
            format!("CALL idempotent_saga_run('trip', '{key}', '{{\"n\": {}}}')", key % 4)
        }
        Saga::Step { key, number } => {
            let arguments = format!("'{key}', '{{\"n\": {}}}'", key % 4);
            step("idempotent_saga_step", arguments, number)
        }
        Saga::Resume { key, number } => step("idempotent_saga_resume", format!("'{key}'"), number),
        Saga::Abandon { key } => {
            format!("SELECT state FROM idempotent_saga_abandon('trip', '{key}')")
        }
        Saga::Settle { key, step, verdict } => format!(
            "SELECT state FROM idempotent_saga_settle('trip', '{key}', 's{step}', '{}')",
            verdict.name()
        ),
        Saga::Forget { key, unfinished } => {
            format!("SELECT idempotent_saga_forget('trip', '{key}', unfinished => {unfinished})")
        }
    }
}

pub fn traces(server: &Server) -> Result<Vec<Trace>> {
    let rows = server
        .client()?
        .query("SELECT place, saga, step, undone, number FROM saga_trace ORDER BY place", &[])?;
    (rows.iter())
        .map(|row| {
            Ok(Trace::Saga {
                place: row.get(0),
                key: u32::try_from(row.get::<_, i64>(1))?,
                step: u32::try_from(row.get::<_, i64>(2))?,
                undone: row.get(3),
                number: row.get::<_, Option<i64>>(4).map(u64::try_from).transpose()?,
            })
        })
        .collect()
}
