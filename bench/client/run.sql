\set key random(1, 9000000000000000000)
SELECT outcome, response FROM idempotent_run('charge', :key, :request, 'bench.pay(jsonb)');
