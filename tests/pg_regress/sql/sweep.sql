-- Sweeping by hand: what has expired goes, what is in progress or unknown stays.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
SELECT idempotent_sweep() >= 0;
SELECT count(*) FROM (VALUES ('sweep_u', 'unlogged'), ('sweep_l', 'logged')) AS v (name, durability),
       idempotent_operation(v.name, durability => v.durability, retention => '1 microsecond',
                            failure_retention => '1 hour', response_retention => '1 microsecond');

-- In each table: two that have expired, one whose body has, a lease, a lapsed lease, an unknown one.
SELECT (idempotent_claim(o.name, k.key)).outcome, idempotent_complete(o.name, k.key, '1')
  FROM (VALUES ('sweep_u'), ('sweep_l')) AS o (name), (VALUES ('a'), ('b')) AS k (key);
SELECT (idempotent_claim(o.name, 'body')).outcome, idempotent_fail(o.name, 'body', '"why"', 402)
  FROM (VALUES ('sweep_u'), ('sweep_l')) AS o (name);
SELECT count(*) FROM (VALUES ('sweep_u'), ('sweep_l')) AS o (name), (VALUES ('leased', '1 hour'::interval), ('lapsed', '1 microsecond')) AS k (key, lease)
 WHERE (idempotent_claim(o.name, k.key, lease => k.lease)).outcome = 'claimed';
SELECT count(*) FROM (VALUES ('sweep_u_lost', 'unlogged'), ('sweep_l_lost', 'logged')) AS v (name, durability),
       idempotent_operation(v.name, durability => v.durability, retention => '1 microsecond', on_lapse => 'unknown');
SELECT count(*) FROM (VALUES ('sweep_u_lost'), ('sweep_l_lost')) AS o (name)
 WHERE (idempotent_claim(o.name, 'unknown', lease => '1 microsecond')).outcome = 'claimed';

-- Expired and evicted are told before anything is swept.
SELECT outcome, failed, status, response, evicted FROM idempotent_replay('sweep_u', 'body');
SELECT outcome FROM idempotent_replay('sweep_u', 'a');

SELECT idempotent_sweep(0);
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_sweep(1);
SELECT idempotent_sweep();
SELECT idempotent_sweep();
SELECT operation, key, state, evicted, response FROM idempotent.record WHERE operation LIKE 'sweep%'
UNION ALL
SELECT operation, key, state, evicted, response FROM idempotent.record_logged WHERE operation LIKE 'sweep%'
ORDER BY 1, 2;
SELECT outcome, failed, status, response, evicted FROM idempotent_replay('sweep_u', 'body');

-- An answer that lives keeps its body, as long as the record or until its response_retention is over.
SELECT count(*) FROM (VALUES ('sweep_live', NULL::interval), ('sweep_live_hour', '1 hour')) AS v (name, kept), idempotent_operation(v.name, response_retention => v.kept);
SELECT (idempotent_claim(o.name, 'k')).outcome, idempotent_complete(o.name, 'k', '"whole"') FROM (VALUES ('sweep_live'), ('sweep_live_hour')) AS o (name);
SELECT idempotent_sweep();
SELECT outcome, response, evicted FROM (VALUES ('sweep_live'), ('sweep_live_hour')) AS o (name), idempotent_replay(o.name, 'k');
