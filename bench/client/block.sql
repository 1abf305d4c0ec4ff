\set key random(1, 9000000000000000000)
BEGIN;
SELECT outcome, response FROM idempotent_claim('charge', :key, :request);
INSERT INTO bench.payment (customer, amount) VALUES ('Ada', 25.00);
SELECT idempotent_complete('charge', :key, :response);
COMMIT;
