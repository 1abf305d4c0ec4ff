-- A storm over real purchases. Needs two things in the environment: CDNOW, the path of the purchases' file, and
-- DEMO_BIN, the program `storm` or the directory it lies in. `make demo` sets both.
-- Run it in any database where you may create an extension, as often as you like. Every claim made here is checked:
-- the script stops, and psql exits with an error, when one does not hold.
\set ON_ERROR_STOP on
\set QUIET on
\set ECHO none
\pset pager off
\pset tuples_only on
\pset format unaligned
SET client_min_messages = warning;

CREATE EXTENSION IF NOT EXISTS pg_idempotent;

DROP SCHEMA IF EXISTS demo_storm, demo_storm_with, demo_storm_without CASCADE;
CREATE SCHEMA demo_storm;

CREATE FUNCTION demo_storm.expect(told text, holds boolean) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF holds IS NOT TRUE THEN
        RAISE EXCEPTION 'the demo does not hold: %', told;
    END IF;
    RETURN '   ok  ' || told;
END $$;

\echo
\echo '== A storm over real purchases =='
\echo
\echo 'The CDNOW sample: what 2,357 customers of a record shop bought in 1997 and 1998.'

\set lines `cat "$CDNOW"`
CREATE TABLE demo_storm.purchase (
    line integer PRIMARY KEY,
    customer integer NOT NULL,
    bought date NOT NULL,
    cds integer NOT NULL,
    dollars numeric(12,2) NOT NULL,
    request jsonb
);
INSERT INTO demo_storm.purchase (line, customer, bought, cds, dollars)
SELECT row_number() OVER (ORDER BY line), field[1]::integer, field[3]::date, field[4]::integer, field[5]::numeric
  FROM string_to_table(:'lines', E'\n') WITH ORDINALITY AS file (content, line),
       regexp_split_to_array(btrim(content, E' \r\t'), '\s+') AS field
 WHERE btrim(content, E' \r\t') <> '';
\unset lines
UPDATE demo_storm.purchase
   SET request = jsonb_build_object('purchase', line, 'customer', customer, 'dollars', dollars);

SELECT demo_storm.expect('6,919 purchases, 244,091.94 dollars', count(*) = 6919 AND sum(dollars) = 244091.94)
  FROM demo_storm.purchase;

-- Two sets of books, the same: one for the storm with the extension, one for the storm without.
-- Ordinary tables: nothing in them would stop a second charge.
CREATE SCHEMA demo_storm_with;
CREATE TABLE demo_storm_with.charge (
    id bigint GENERATED ALWAYS AS IDENTITY,
    purchase integer NOT NULL,
    customer integer NOT NULL,
    dollars numeric(12,2) NOT NULL
);
CREATE INDEX ON demo_storm_with.charge (purchase);
CREATE TABLE demo_storm_with.account (customer integer PRIMARY KEY, balance numeric(12,2) NOT NULL);
INSERT INTO demo_storm_with.account SELECT DISTINCT customer, 0 FROM demo_storm.purchase;

CREATE SCHEMA demo_storm_without;
CREATE TABLE demo_storm_without.charge (LIKE demo_storm_with.charge INCLUDING ALL);
CREATE TABLE demo_storm_without.account (LIKE demo_storm_with.account INCLUDING ALL);
INSERT INTO demo_storm_without.account TABLE demo_storm_with.account;

-- The handler: writes a row and moves a balance by an increment, the classic thing not to do twice. It knows nothing
-- of keys. Both storms call this one; their connections' search_path says into which books it writes.
CREATE FUNCTION demo_storm.charge(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    number bigint;
    owed numeric;
BEGIN
    INSERT INTO charge (purchase, customer, dollars)
    VALUES ((request->>'purchase')::integer, (request->>'customer')::integer, (request->>'dollars')::numeric)
    RETURNING id INTO number;

    UPDATE account SET balance = balance + (request->>'dollars')::numeric
     WHERE customer = (request->>'customer')::integer
    RETURNING balance INTO owed;

    RETURN jsonb_build_object('charge', number, 'balance', owed);
END $$;

-- What became of every delivery, as the clients saw it.
CREATE TABLE demo_storm.delivery (
    side text NOT NULL,
    delivery integer NOT NULL,
    attempt integer NOT NULL,
    purchase integer NOT NULL,
    outcome text,
    response jsonb,
    killed text,
    PRIMARY KEY (side, delivery, attempt)
);

\echo
\echo 'Each purchase has one key and is delivered five times, all shuffled. One delivery in ten is killed in flight: its'
\echo 'backend is terminated before the client has read an answer, before COMMIT or after it. The client cannot know'
\echo 'which, and delivers again.'
\echo
SELECT idempotent_new_key() AS run \gset
\setenv STORM_RUN :run
\setenv PGHOST :HOST
\setenv PGPORT :PORT
\setenv PGUSER :USER
\setenv PGDATABASE :DBNAME
\! if [ -d "$DEMO_BIN" ]; then exec "$DEMO_BIN/storm"; else exec "$DEMO_BIN"; fi
ANALYZE demo_storm.delivery, demo_storm_with.charge, demo_storm_without.charge;
-- A storm that stopped half way has written nothing for that side.
SELECT demo_storm.expect(format('the storm ran to its end, %s pg_idempotent', side),
                         count(DISTINCT delivery.delivery) FILTER (WHERE outcome IN ('executed', 'replay')) = 34595)
  FROM (VALUES ('with'), ('without')) AS both_sides (side)
  LEFT JOIN demo_storm.delivery USING (side)
 GROUP BY side ORDER BY side;

-- The table. Each figure is counted from what the clients saw or from the books.
CREATE VIEW demo_storm.outcome AS
WITH seen AS (
    SELECT side,
           count(*) FILTER (WHERE attempt = 1) AS deliveries,
           count(*) FILTER (WHERE killed IS NOT NULL) AS killed,
           count(*) FILTER (WHERE killed = 'before COMMIT') AS killed_before,
           count(*) FILTER (WHERE killed = 'after COMMIT') AS killed_after,
           count(*) FILTER (WHERE attempt > 1) AS redelivered,
           count(*) FILTER (WHERE outcome = 'executed') AS executed,
           count(*) FILTER (WHERE outcome = 'replay') AS replayed,
           count(*) FILTER (WHERE outcome = 'in_progress') AS in_progress
      FROM demo_storm.delivery GROUP BY side
), books AS (
    SELECT 'with' AS side, (SELECT count(*) FROM demo_storm_with.charge) AS rows,
           (SELECT sum(balance) FROM demo_storm_with.account) AS dollars
    UNION ALL
    SELECT 'without', (SELECT count(*) FROM demo_storm_without.charge),
           (SELECT sum(balance) FROM demo_storm_without.account)
)
SELECT * FROM seen JOIN books USING (side);

\echo
\pset tuples_only off
\pset format aligned
\pset footer off
SELECT line.what AS " ",
       max(line.figure) FILTER (WHERE side = 'with') AS "with pg_idempotent",
       max(line.figure) FILTER (WHERE side = 'without') AS "without"
  FROM demo_storm.outcome,
       LATERAL (VALUES
           (1, 'deliveries', to_char(deliveries, 'FM999,999,990')),
           (2, 'killed in flight', to_char(killed, 'FM999,999,990')),
           (3, '  before COMMIT', to_char(killed_before, 'FM999,999,990')),
           (4, '  after COMMIT', to_char(killed_after, 'FM999,999,990')),
           (5, 'redelivered', to_char(redelivered - in_progress, 'FM999,999,990')),
           (6, 'asked again (in_progress)', to_char(in_progress, 'FM999,999,990')),
           (7, 'answered: executed', to_char(executed, 'FM999,999,990')),
           (8, 'executed, answer lost in a kill', to_char(rows - executed, 'FM999,999,990')),
           (9, 'answered: replay', to_char(replayed, 'FM999,999,990')),
           (10, 'rows in the books', to_char(rows, 'FM999,999,990')),
           (11, 'dollars charged', to_char(dollars, 'FM999,999,990.00')),
           (12, 'dollars too much', to_char(dollars - 244091.94, 'FM999,999,990.00'))
       ) AS line (position, what, figure)
 GROUP BY line.position, line.what
 ORDER BY line.position;
\pset tuples_only on
\pset format unaligned

-- And what must hold.
SELECT demo_storm.expect('34,595 deliveries, 3,459 of them killed, on both sides',
                         count(*) = 2 AND bool_and(deliveries = 34595 AND killed = 3459))
  FROM demo_storm.outcome;
SELECT demo_storm.expect('some were killed before COMMIT and some after it, on both sides',
                         bool_and(killed_before > 0 AND killed_after > 0))
  FROM demo_storm.outcome;
SELECT demo_storm.expect('with: 6,919 rows, one for each purchase',
                         count(*) = 6919 AND count(DISTINCT purchase) = 6919)
  FROM demo_storm_with.charge;
SELECT demo_storm.expect('with: the balances add up to 244,091.94, to the cent', sum(balance) = 244091.94)
  FROM demo_storm_with.account;
SELECT demo_storm.expect('with: every customer owes what he or she bought',
                         bool_and(balance = owed))
  FROM demo_storm_with.account
  JOIN (SELECT customer, sum(dollars) AS owed FROM demo_storm.purchase GROUP BY customer) AS bought USING (customer);
SELECT demo_storm.expect('with: every answer to a purchase is the same, and tells the row that was written',
                         count(*) = 6919 AND bool_and(answers = 1 AND told = id))
  FROM (SELECT purchase, count(DISTINCT response) AS answers, min((response->>'charge')::bigint) AS told
          FROM demo_storm.delivery
         WHERE side = 'with' AND outcome IN ('executed', 'replay') GROUP BY purchase) AS answered
  JOIN demo_storm_with.charge USING (purchase);
SELECT demo_storm.expect('with: no purchase was executed twice; where no client saw it executed, that answer was killed after COMMIT',
                         count(*) = 6919 AND bool_and(executed = 1 OR executed = 0 AND lost > 0))
  FROM (SELECT count(*) FILTER (WHERE outcome = 'executed') AS executed,
               count(*) FILTER (WHERE killed = 'after COMMIT') AS lost
          FROM demo_storm.delivery WHERE side = 'with' GROUP BY purchase) AS by_purchase;
SELECT demo_storm.expect('without: charged several times over', count(*) > 4 * 6919) FROM demo_storm_without.charge;
\echo
\echo 'What pg_idempotent claims: at most one committed effect in this database per key, within its retention.'
\echo
