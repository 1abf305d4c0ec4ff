SELECT outcome, response FROM idempotent_run('charge', 'the hot key of sample ' || :sample, :request, 'bench.slow(jsonb)', wait => '1 minute');
