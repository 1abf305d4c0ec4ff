-- What both sides work on. Run in a database of its own, as superuser.
CREATE EXTENSION pg_idempotent;

CREATE SCHEMA bench;

-- The work itself: one row.
CREATE TABLE bench.payment (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer text NOT NULL,
    amount   numeric(12,2) NOT NULL
);

-- As a handler: the request in, the answer out.
CREATE FUNCTION bench.pay(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    payment bigint;
BEGIN
    INSERT INTO bench.payment (customer, amount)
    VALUES (request->>'customer', (request->>'amount')::numeric)
    RETURNING id INTO payment;
    RETURN jsonb_build_object('payment', payment, 'state', 'paid');
END $$;

-- The keys of one sample, in batches: those of a batch share a transaction.
CREATE UNLOGGED TABLE bench.key (
    batch    integer NOT NULL,
    key      text NOT NULL,
    request  jsonb NOT NULL,
    response jsonb NOT NULL
);
CREATE INDEX ON bench.key (batch);

-- Keys that are finished already on both sides, to be replayed.
CREATE UNLOGGED TABLE bench.finished (LIKE bench.key);

-- Keys as most clients send them: random UUIDs.
CREATE FUNCTION bench.new_keys(batches integer, batch_size integer) RETURNS SETOF bench.key LANGUAGE sql AS $$
    SELECT batch, gen_random_uuid()::text,
           jsonb_build_object('customer', 'customer-' || n, 'amount', 25.00, 'currency', 'EUR', 'order', batch),
           jsonb_build_object('payment', n, 'state', 'paid')
      FROM generate_series(1, batches) AS batch, generate_series(1, batch_size) AS n
$$;

-- Microseconds: of the wall's clock, and of processor time that this backend has used (null where the kernel does not
-- tell). The latter is what a call costs, whatever else the machine is doing.
CREATE FUNCTION bench.clock(OUT wall numeric, OUT cpu numeric) LANGUAGE plpgsql AS $$
BEGIN
    wall := extract(epoch FROM clock_timestamp()) * 1000000;
    cpu := split_part(pg_read_file('/proc/self/schedstat', true), ' ', 1)::numeric / 1000;
END $$;
