-- Databases and clients that do not speak UTF-8: a key is the same key, measured and hashed in UTF-8.
SET client_encoding = 'UTF8';
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regress_idempotent_latin1;
DROP DATABASE IF EXISTS regress_idempotent_win1252;
DROP DATABASE IF EXISTS regress_idempotent_ascii;
CREATE DATABASE regress_idempotent_latin1 TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C';
CREATE DATABASE regress_idempotent_win1252 TEMPLATE template0 ENCODING 'WIN1252' LC_COLLATE 'C' LC_CTYPE 'C';
CREATE DATABASE regress_idempotent_ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C';
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set home :DBNAME
\set SHOW_CONTEXT never
-- here, as a measure for what comes
SELECT idempotent_derive_key('encoding', 'é', 'ö', 'ä'), idempotent_shard('é', 1024, 'ä'), idempotent_explain('encoding', 'é', 'ä') ->> 'record_id' AS record_id;
SELECT idempotent_request_key('{"é": "ä"}');

-- 1. a database in LATIN1
\c regress_idempotent_latin1
SET client_encoding = 'UTF8';
CREATE EXTENSION pg_idempotent;
SELECT idempotent_derive_key('encoding', 'é', 'ö', 'ä'), idempotent_shard('é', 1024, 'ä'), idempotent_explain('encoding', 'é', 'ä') ->> 'record_id' AS record_id;
SELECT idempotent_request_key('{"é": "ä"}');
SELECT idempotent_explain('encoding', 'é', 'ä') - 'record_id' AS explained;
-- limits are those of UTF-8, and control characters those of Unicode
SELECT octet_length(repeat('ä', 127) || 'k') AS bytes_here, outcome FROM idempotent_replay('encoding', repeat('ä', 127) || 'k');
SELECT outcome FROM idempotent_replay('encoding', repeat('ä', 128));
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_replay('encoding', 'ä' || chr(133));
\echo :LAST_ERROR_SQLSTATE
-- an example of what is observed is cut between two letters
SELECT (idempotent_operation('observed', mode => 'observe')).mode;
SELECT outcome FROM idempotent_claim('observed', repeat('é', 200));
SELECT length(samples->'bad_key'->0->>'key') AS letters FROM idempotent.observed WHERE operation = 'observed';
-- a life in letters
BEGIN;
SELECT outcome FROM idempotent_claim('bezahlen für', 'schlüssel', '{"größe": "ß"}', 'mäzen');
SELECT idempotent_complete('bezahlen für', 'schlüssel', '{"grüße": "an alle"}', scope => 'mäzen', headers => '{"ä": "ö"}');
COMMIT;
SELECT outcome, response, headers FROM idempotent_claim('bezahlen für', 'schlüssel', '{"größe": "ß"}', 'mäzen');
SELECT outcome FROM idempotent_claim('bezahlen für', 'schlüssel', '{"größe": "ss"}', 'mäzen');
SELECT outcome FROM idempotent_claim('bezahlen für', 'schlüssel', '{"größe": "ss"}', 'mäzen', strict => true);
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_claim('bezahlen für', 'vergeßen');
\echo :LAST_ERROR_SQLSTATE
SELECT operation, scope, key FROM idempotent.record WHERE state <> 'e';
SELECT name, fingerprint_exclude, store_failures FROM idempotent_operation('bezahlen für', fingerprint_exclude => '{größe}', store_failures => '{P0001}');
CREATE FUNCTION raises(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'zu groß: %', $1 ->> 'größe'; END $$;
SELECT outcome, failed, response FROM idempotent_run('bezahlen für', 'zu groß', '{"größe": "ü"}', 'raises(jsonb)');
SELECT outcome, failed, response FROM idempotent_run('bezahlen für', 'zu groß', '{"größe": "anders"}', 'raises(jsonb)');
SELECT idempotent_operation('bezahlen für', durability => 'hölzern');
\echo :LAST_ERROR_SQLSTATE
-- errors of Postgres keep their SQLSTATE, whatever their letters
ALTER TABLE idempotent.operation ADD CONSTRAINT "prüfung" CHECK (name <> 'schlecht');
\set VERBOSITY sqlstate
SELECT idempotent_operation('schlecht');
\set VERBOSITY default
CREATE ROLE "regress_idempotent_rölé";
SELECT idempotent_grant('"regress_idempotent_rölé"');
SELECT has_function_privilege('regress_idempotent_rölé', 'idempotent_replay(text, text, text)', 'EXECUTE');
SELECT idempotent_revoke('"regress_idempotent_rölé"');
SET client_min_messages = warning;
DROP OWNED BY "regress_idempotent_rölé";
DROP ROLE "regress_idempotent_rölé";
RESET client_min_messages;

-- 2. a client in LATIN1 of a database in UTF-8
\c :home
SET client_encoding = 'LATIN1';
SELECT idempotent_derive_key('encoding', convert_from('\xe9', 'LATIN1'), convert_from('\xf6', 'LATIN1'), convert_from('\xe4', 'LATIN1'));
RESET client_encoding;

-- 3. a saga in WIN1252, where letters are single bytes that are control characters in other encodings
\c regress_idempotent_win1252
SET client_encoding = 'UTF8';
CREATE EXTENSION pg_idempotent;
CREATE FUNCTION same(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT $1->'request' $$;
SELECT name FROM idempotent_saga('größe', '[{"name": "für €", "handler": "public.same(jsonb)"}]');
CALL idempotent_saga_run('größe', '5 – 7 €', '{"größe": "ß"}', 'mäzen');
CALL idempotent_saga_run('größe', '5 – 7 €', '{"größe": "ß"}', 'mäzen');
CALL idempotent_saga_run('größe', '5 – 7 €', '{"größe": "ss"}', 'mäzen');
CALL idempotent_saga_run('größe', repeat('€', 85), '1');
CALL idempotent_saga_run('größe', repeat('€', 86), '1');
\echo :LAST_ERROR_SQLSTATE
SELECT saga, scope, length(key) AS letters, state FROM idempotent.sagas ORDER BY letters;

-- 4. a database in SQL_ASCII, where a key is its bytes
\c regress_idempotent_ascii
CREATE EXTENSION pg_idempotent;
SELECT idempotent_derive_key('encoding', 'é', 'ö', 'ä'), idempotent_shard('é', 1024, 'ä');
BEGIN;
SELECT outcome FROM idempotent_claim('encoding', E'k\xe9y\xff', ('"\u0041' || E'\xe9"')::jsonb);
SELECT idempotent_complete('encoding', E'k\xe9y\xff', '1');
COMMIT;
SELECT outcome, response FROM idempotent_claim('encoding', E'k\xe9y\xff', ('"A' || E'\xe9"')::jsonb);
SELECT outcome, response FROM idempotent_claim('encoding', E'k\xe9y\xff', ('"A' || E'\xe8"')::jsonb);
SELECT outcome FROM idempotent_replay('encoding', E'k\xe9y\xfe');
SELECT outcome FROM idempotent_replay('encoding', E'k\xe9\x01');
\echo :LAST_ERROR_SQLSTATE
\c :home
SET client_min_messages = warning;
DROP DATABASE regress_idempotent_latin1;
DROP DATABASE regress_idempotent_win1252;
DROP DATABASE regress_idempotent_ascii;
