\set n random(1, :finished)
SELECT outcome, response FROM idempotent_replay('charge', :n);
