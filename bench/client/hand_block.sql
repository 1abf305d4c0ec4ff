\set key random(1, 9000000000000000000)
BEGIN;
INSERT INTO bench.idempotency_key (key, request_hash) VALUES (:key, sha256(convert_to(:request, 'UTF8'))) ON CONFLICT (key) DO NOTHING RETURNING key;
INSERT INTO bench.payment (customer, amount) VALUES ('Ada', 25.00);
UPDATE bench.idempotency_key SET response = :response, finished_at = now() WHERE key = :key;
COMMIT;
