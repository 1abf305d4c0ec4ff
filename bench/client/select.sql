\set n random(1, :finished)
SELECT finished_at, response FROM bench.idempotency_key WHERE key = :n;
