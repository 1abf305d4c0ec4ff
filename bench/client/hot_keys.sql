\set n random(1, 64)
SELECT outcome, response FROM idempotent_replay('charge', :n);
