\set key random(1, 9000000000000000000)
SELECT outcome, answer FROM bench.hand_run(:key, :request);
