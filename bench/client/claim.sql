\set n random(1, :finished)
SELECT outcome, response FROM idempotent_claim('charge', :n, :request);
