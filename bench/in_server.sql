-- The loops inside the server: one procedure a measure and side, no client between two calls. What they have written is
-- checked at the end (check.sql).

-- A look at a finished key.
CREATE PROCEDURE bench.replay_ours(passes integer) LANGUAGE plpgsql AS $$
DECLARE
    answered bigint;
BEGIN
    SELECT count(told) INTO answered
      FROM (SELECT idempotent_replay('charge', key) AS told FROM generate_series(1, passes), bench.finished OFFSET 0) AS call;
END $$;

CREATE PROCEDURE bench.replay_rival(passes integer) LANGUAGE plpgsql AS $$
DECLARE
    answered bigint;
BEGIN
    SELECT count(told) INTO answered
      FROM (SELECT bench.hand_replay(key) AS told FROM generate_series(1, passes), bench.finished OFFSET 0) AS call;
END $$;

-- What a retry meets that claims, as the first attempt did: the answer. The rival inserts in vain, then selects.
CREATE PROCEDURE bench.retry_ours(passes integer) LANGUAGE plpgsql AS $$
DECLARE
    answered bigint;
BEGIN
    SELECT count(told) INTO answered
      FROM (SELECT idempotent_claim('charge', key, request) AS told FROM generate_series(1, passes), bench.finished OFFSET 0) AS call;
END $$;

CREATE PROCEDURE bench.retry_rival(passes integer) LANGUAGE plpgsql AS $$
DECLARE
    answered bigint;
BEGIN
    SELECT count(told) INTO answered
      FROM (SELECT bench.hand_claim(key, request) AS told FROM generate_series(1, passes), bench.finished OFFSET 0) AS call;
END $$;

-- The answer to a retry: we have a function that only looks; the guides' one inserts in vain, then selects.
CREATE PROCEDURE bench.answer_ours(passes integer) LANGUAGE sql AS 'CALL bench.replay_ours(passes)';
CREATE PROCEDURE bench.answer_rival(passes integer) LANGUAGE sql AS 'CALL bench.retry_rival(passes)';

-- Claim and complete, a batch of pairs to a transaction, so that COMMIT hardly counts.
CREATE PROCEDURE bench.claim_complete_ours(batches integer) LANGUAGE plpgsql AS $$
DECLARE
    answered bigint;
BEGIN
    FOR number IN 1..batches LOOP
        SELECT count(claim) + count(complete) INTO answered
          FROM (SELECT idempotent_claim('charge', key, request) AS claim,
                       idempotent_complete('charge', key, response) AS complete
                  FROM bench.key WHERE batch = number OFFSET 0) AS pair;
        COMMIT;
    END LOOP;
END $$;

CREATE PROCEDURE bench.claim_complete_rival(batches integer) LANGUAGE plpgsql AS $$
DECLARE
    answered bigint;
BEGIN
    FOR number IN 1..batches LOOP
        SELECT count(claim) + count(complete) INTO answered
          FROM (SELECT bench.hand_claim(key, request) AS claim,
                       bench.hand_complete(key, response) AS complete
                  FROM bench.key WHERE batch = number OFFSET 0) AS pair;
        COMMIT;
    END LOOP;
END $$;

-- The same, with more keys in a transaction than its share of the lock table, and with fewer. Keys of their own: both sides are ours.
CREATE PROCEDURE bench.claim_complete_many(batches integer, operation text, batches_in_transaction integer) LANGUAGE plpgsql AS $$
DECLARE
    answered bigint;
BEGIN
    FOR number IN 1..batches LOOP
        SELECT count(claim) + count(complete) INTO answered
          FROM (SELECT idempotent_claim(operation, translate(key, '-', ':'), request) AS claim,
                       idempotent_complete(operation, translate(key, '-', ':'), response) AS complete
                  FROM bench.key WHERE batch = number OFFSET 0) AS pair;
        IF number % batches_in_transaction = 0 THEN
            COMMIT;
        END IF;
    END LOOP;
END $$;
CREATE PROCEDURE bench.many_ours(batches integer) LANGUAGE plpgsql AS $$ BEGIN CALL bench.claim_complete_many(batches, 'charge_400', 8); END $$;
CREATE PROCEDURE bench.many_rival(batches integer) LANGUAGE plpgsql AS $$ BEGIN CALL bench.claim_complete_many(batches, 'charge_50', 1); END $$;

-- The same with keys of its own, a transaction to each pair, and the processor time of a pair.
CREATE PROCEDURE bench.new_claims(pairs integer, INOUT microseconds numeric) LANGUAGE plpgsql AS $$
DECLARE
    before  numeric := (SELECT coalesce(cpu, wall) FROM bench.clock());
    new_key text;
BEGIN
    FOR number IN 1..pairs LOOP
        new_key := gen_random_uuid();
        PERFORM idempotent_claim('charge', new_key, '{"order": 1}'), idempotent_complete('charge', new_key, '{"payment": 1}');
        COMMIT;
    END LOOP;
    microseconds := ((SELECT coalesce(cpu, wall) FROM bench.clock()) - before) / pairs;
END $$;

-- The same, a transaction to each pair.
CREATE PROCEDURE bench.transaction_ours(batches integer) LANGUAGE plpgsql AS $$
DECLARE
    keys bench.key[] := ARRAY(SELECT k FROM bench.key AS k WHERE batch <= batches);
    k    bench.key;
BEGIN
    FOREACH k IN ARRAY keys LOOP
        PERFORM idempotent_claim('charge', k.key, k.request), idempotent_complete('charge', k.key, k.response);
        COMMIT;
    END LOOP;
END $$;

CREATE PROCEDURE bench.transaction_rival(batches integer) LANGUAGE plpgsql AS $$
DECLARE
    keys bench.key[] := ARRAY(SELECT k FROM bench.key AS k WHERE batch <= batches);
    k    bench.key;
BEGIN
    FOREACH k IN ARRAY keys LOOP
        PERFORM bench.hand_claim(k.key, k.request), bench.hand_complete(k.key, k.response);
        COMMIT;
    END LOOP;
END $$;

-- Claim, a handler that inserts one row, complete, in one call; a batch of calls to a transaction.
CREATE PROCEDURE bench.run_ours(batches integer) LANGUAGE plpgsql AS $$
DECLARE
    answered bigint;
BEGIN
    FOR number IN 1..batches LOOP
        SELECT count(told) INTO answered
          FROM (SELECT idempotent_run('charge', key, request, 'bench.pay(jsonb)') AS told
                  FROM bench.key WHERE batch = number OFFSET 0) AS call;
        COMMIT;
    END LOOP;
END $$;

CREATE PROCEDURE bench.run_rival(batches integer) LANGUAGE plpgsql AS $$
DECLARE
    answered bigint;
BEGIN
    FOR number IN 1..batches LOOP
        SELECT count(told) INTO answered
          FROM (SELECT bench.hand_run(key, request) AS told
                  FROM bench.key WHERE batch = number OFFSET 0) AS call;
        COMMIT;
    END LOOP;
END $$;
