-- Whether what was measured is what was meant: every key finished, on both sides, and as many on one as on the other
-- where both were given the same keys.
DO $$
DECLARE
    ours_open   bigint := (SELECT count(*) FROM idempotent.record WHERE state NOT IN ('c', 'e'));
    rivals_open bigint := (SELECT count(*) FROM bench.idempotency_key WHERE finished_at IS NULL);
    only_one    bigint := (SELECT count(*) FROM idempotent.record AS r FULL JOIN bench.idempotency_key AS k USING (key)
                            WHERE key LIKE '%-%' AND (r.record_id IS NULL OR k.key IS NULL));
    different   bigint := (SELECT count(*) FROM idempotent.record AS r JOIN bench.idempotency_key AS k USING (key)
                            WHERE r.response - 'payment' <> k.response - 'payment');
BEGIN
    IF ours_open + rivals_open + only_one + different > 0 THEN
        RAISE EXCEPTION 'unfinished: % of ours, % of the rival''s; on one side only: %; answered differently: %',
            ours_open, rivals_open, only_one, different;
    END IF;
END $$;
