-- Consumer offsets: how far a consumer has come, moved with its transaction.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never

-- forward is true, gaps are allowed; the same again and going back is false
SELECT idempotent_advance('billing', 'p0', 0);
SELECT o, idempotent_advance('billing', 'p0', o) FROM unnest(ARRAY[0, 1, 2, 2, 1, 10, 9, 11, 11]) WITH ORDINALITY AS t (o, n) ORDER BY n;
SELECT consumer, scope, partition, "offset", advanced_at <= clock_timestamp() AS dated FROM idempotent.offsets;
-- partitions, consumers and scopes go their own ways
SELECT idempotent_advance('billing', 'p1', 5), idempotent_advance('shipping', 'p0', 5), idempotent_advance('billing', 'p0', 5, scope => 'tenant-7');
SELECT idempotent_advance(consumer => 'billing', partition => 'p1', "offset" => 5), idempotent_advance('billing', 'p1', 6);
-- the ends of the type
SELECT idempotent_advance('edge', 'p', -9223372036854775808), idempotent_advance('edge', 'p', -1), idempotent_advance('edge', 'p', 9223372036854775807), idempotent_advance('edge', 'p', 9223372036854775807);
-- with the transaction, and with the savepoint
BEGIN;
SELECT idempotent_advance('billing', 'p0', 100);
ROLLBACK;
SELECT idempotent_advance('billing', 'p0', 50);
BEGIN;
SAVEPOINT s;
SELECT idempotent_advance('billing', 'p0', 60);
ROLLBACK TO s;
SELECT idempotent_advance('billing', 'p0', 55);
COMMIT;
SELECT consumer, scope, partition, "offset" FROM idempotent.offsets ORDER BY 1, 2, 3;
-- a log read from its beginning once more: no locks, no transaction id
BEGIN;
SELECT count(*) FILTER (WHERE idempotent_advance('billing', 'p0', n)) AS advanced FROM generate_series(1, 55) AS n;
SELECT pg_current_xact_id_if_assigned() IS NULL AS nothing_written;
COMMIT;
-- an offset that moves thousands of times takes no more room: in place, and no index is touched
CREATE PROCEDURE offsets_move() LANGUAGE plpgsql AS $$
BEGIN
    FOR n IN 1..3000 LOOP
        PERFORM idempotent_advance('busy', 'p', n);
        COMMIT;
    END LOOP;
END $$;
CALL offsets_move();
SELECT "offset", pg_relation_size('idempotent.offsets_pkey') <= 16384 AS index_has_not_grown, pg_relation_size('idempotent.offsets') <= 65536 AS table_has_not_grown FROM idempotent.offsets WHERE consumer = 'busy';
-- counted with its consumer's operation
SELECT claimed, replayed FROM idempotent.stats WHERE operation = 'busy';

-- names that break the rules: nothing happens
SELECT idempotent_advance(NULL, 'p', 1);
SELECT idempotent_advance('billing', NULL, 1);
SELECT idempotent_advance('billing', '', 1);
SELECT idempotent_advance('billing', repeat('p', 256), 1);
SELECT idempotent_advance('billing', E'p\t', 1);
SELECT idempotent_advance('billing', 'p', NULL);
SELECT idempotent_advance('billing', 'p', 1, NULL);
SELECT idempotent_advance('billing', 'p', 1, repeat('s', 256));
BEGIN READ ONLY;
SELECT idempotent_advance('billing', 'p', 1);
ROLLBACK;
-- hostile objects in the search_path change nothing
CREATE SCHEMA offsets_hostile;
CREATE FUNCTION offsets_hostile.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT 'infinity'::timestamptz $$;
CREATE FUNCTION offsets_hostile.wrong(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR offsets_hostile.< (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = offsets_hostile.wrong);
CREATE OPERATOR offsets_hostile.>= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = offsets_hostile.wrong);
SET search_path = offsets_hostile, pg_catalog, public;
SELECT idempotent_advance('hostile', 'p', 2), idempotent_advance('hostile', 'p', 1), idempotent_advance('hostile', 'p', 3);
RESET search_path;
SELECT "offset", advanced_at < 'infinity' AS dated FROM idempotent.offsets WHERE consumer = 'hostile';
DROP SCHEMA offsets_hostile CASCADE;

-- the right to call it is enough, and it comes with no other; the operation's role counts
CREATE ROLE regress_idempotent_consumer;
SELECT idempotent_grant('regress_idempotent_consumer');
SET ROLE regress_idempotent_consumer;
SELECT idempotent_advance('granted', 'p', 1), idempotent_advance('granted', 'p', 1), current_user;
SELECT count(*) FROM idempotent.offsets;
RESET ROLE;
SELECT (idempotent_operation('clerks', role => 'pg_monitor')).role;
SET ROLE regress_idempotent_consumer;
SELECT idempotent_advance('clerks', 'p', 1);
SELECT current_user;
RESET ROLE;
SELECT idempotent_revoke('regress_idempotent_consumer');
DROP OWNED BY regress_idempotent_consumer;
DROP ROLE regress_idempotent_consumer;
-- the plan that is kept outlives the table
SELECT idempotent_advance('kept', 'p', 1);
ALTER TABLE idempotent.offsets SET (fillfactor = 60);
SELECT idempotent_advance('kept', 'p', 2);
ALTER TABLE idempotent.offsets SET (fillfactor = 50);
DELETE FROM idempotent.offsets;
DELETE FROM idempotent.operation WHERE name = 'clerks';
DROP PROCEDURE offsets_move();
