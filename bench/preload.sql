-- Tables that are not empty: finished keys on both sides, some like those of real callers, for the loops in the server,
-- and as many by number, for pgbench.
CREATE PROCEDURE bench.preload(keys integer, batch_size integer) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO bench.key SELECT * FROM bench.new_keys(keys / batch_size, batch_size);
    INSERT INTO bench.key
    SELECT -(n / batch_size) - 1, n::text, '{"customer": "Ada", "amount": 25.00}', '{"payment": 1, "state": "paid"}'
      FROM generate_series(1, keys) AS n;
    ANALYZE bench.key;
    FOR number IN -(keys / batch_size) - 1 .. keys / batch_size LOOP
        PERFORM idempotent_claim('charge', key, request), idempotent_complete('charge', key, response),
                bench.hand_claim(key, request), bench.hand_complete(key, response)
           FROM bench.key WHERE batch = number;
        COMMIT;
    END LOOP;
END $$;
CALL bench.preload(:finished, :batch_size);

-- Those that are replayed in the server: few, as retries are of recent keys, and in no order.
INSERT INTO bench.finished SELECT * FROM bench.key WHERE batch > 0 ORDER BY random() LIMIT :replayed;
VACUUM ANALYZE bench.idempotency_key, bench.finished, idempotent.record;
