-- What random statements call, read and write.
CREATE SCHEMA fuzz;
CREATE ROLE fuzz_caller;
CREATE ROLE fuzz_other;
GRANT USAGE, CREATE ON SCHEMA fuzz TO fuzz_caller, fuzz_other;
SELECT idempotent_grant('fuzz_caller'), idempotent_grant('fuzz_other');
SELECT idempotent_operation('logged', durability => 'logged'), idempotent_operation('lease', lease => '200 ms'),
       idempotent_operation('strict', scope_required => true, max_response_bytes => 10),
       idempotent_operation('short', retention => '50 ms', response_retention => '10 ms'),
       idempotent_operation('unsure', lease => '50 ms', on_lapse => 'unknown', store_failures => '{P0001,22}'),
       idempotent_operation('steady unsure', lease => '50 ms', on_lapse => 'unknown'),
       idempotent_operation('theirs', role => 'fuzz_other'), idempotent_operation('watched', mode => 'observe');

CREATE TABLE fuzz.effect (request jsonb);
CREATE FUNCTION fuzz.same(request jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT request';
CREATE FUNCTION fuzz.declines(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'declined'; END $$;
CREATE FUNCTION fuzz.divides(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb(1 / 0); END $$;
CREATE FUNCTION fuzz.nothing(request jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';
CREATE FUNCTION fuzz.slow(request jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb(1) FROM pg_sleep(0.01)';
CREATE FUNCTION fuzz.enters(request jsonb) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT to_jsonb(idempotent_run('op', 'k1', request, 'fuzz.same(jsonb)')) $$;
CREATE FUNCTION fuzz.sweeps(request jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb(idempotent_sweep())';
CREATE FUNCTION fuzz.writes(request jsonb) RETURNS jsonb LANGUAGE sql AS
    'INSERT INTO fuzz.effect VALUES (request) RETURNING request';
CREATE FUNCTION fuzz.is_no_handler(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
GRANT ALL ON fuzz.effect TO fuzz_caller, fuzz_other;

-- A saga of two steps, of which the second waits a little; what is called meanwhile may be defined anew.
SELECT idempotent_saga(name, '[{"name": "a", "handler": "fuzz.same(jsonb)", "compensation": "fuzz.nothing(jsonb)"}, {"name": "b", "handler": "fuzz.slow(jsonb)"}]')
FROM unnest('{op,steady op}'::text[]) AS name;

-- Arguments in columns: short, compressed and out of line, and null.
CREATE TABLE fuzz.argument (operation text, key text, scope text, request jsonb);
INSERT INTO fuzz.argument VALUES
    ('op', 'k1', '', '1'), ('logged', 'k2', '', '{"n": 1}'), ('lease', 'k3', 't1', NULL), ('short', 'k1', '', '[]'), (NULL, NULL, NULL, NULL),
    ('op', 'big', '', to_jsonb(repeat('x', 100000))), ('op', 'k2', 't1', to_jsonb((SELECT string_agg(md5(n::text), '') FROM generate_series(1, 2000) AS n)));
GRANT ALL ON fuzz.argument TO fuzz_caller, fuzz_other;

-- Work done by triggers: before the row, after it, and at COMMIT.
CREATE TABLE fuzz.order (operation text, key text, request jsonb, shard integer GENERATED ALWAYS AS (idempotent_shard(key, 16)) STORED);
GRANT ALL ON fuzz.order TO fuzz_caller, fuzz_other;
CREATE FUNCTION fuzz.claim_row() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE answer idempotent_result;
BEGIN
    answer := idempotent_claim(NEW.operation, NEW.key, NEW.request);
    IF answer.outcome = 'claimed' THEN
        PERFORM idempotent_complete(NEW.operation, NEW.key, NEW.request, fence => answer.fence);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER claim_before BEFORE INSERT ON fuzz.order FOR EACH ROW WHEN (NEW.key < 'k3') EXECUTE FUNCTION fuzz.claim_row();
CREATE CONSTRAINT TRIGGER claim_at_commit AFTER INSERT ON fuzz.order DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fuzz.claim_row();
