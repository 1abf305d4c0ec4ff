-- The rival: an idempotency table and its functions, written by hand as guides teach it. UNLOGGED, like the table that
-- it is compared with.
CREATE UNLOGGED TABLE bench.idempotency_key (
    key          text PRIMARY KEY,
    request_hash bytea NOT NULL,
    response     jsonb,
    created_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    expires_at   timestamptz NOT NULL DEFAULT now() + interval '24 hours'
);
CREATE INDEX ON bench.idempotency_key (expires_at);

CREATE FUNCTION bench.hand_claim(a_key text, request jsonb, OUT outcome text, OUT answer jsonb) LANGUAGE plpgsql AS $$
DECLARE
    hash  bytea := sha256(convert_to(request::text, 'UTF8'));
    found bench.idempotency_key;
BEGIN
    INSERT INTO bench.idempotency_key (key, request_hash) VALUES (a_key, hash)
    ON CONFLICT (key) DO NOTHING
    RETURNING key INTO found.key;
    IF found.key IS NOT NULL THEN
        outcome := 'claimed';
        RETURN;
    END IF;
    SELECT * INTO found FROM bench.idempotency_key WHERE key = a_key;
    IF found.request_hash <> hash THEN
        outcome := 'mismatch';
    ELSIF found.finished_at IS NULL THEN
        outcome := 'in_progress';
    ELSE
        outcome := 'replay';
        answer := found.response;
    END IF;
END $$;

CREATE FUNCTION bench.hand_complete(a_key text, answer jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    UPDATE bench.idempotency_key SET response = answer, finished_at = now() WHERE key = a_key;
    RETURN answer;
END $$;

CREATE FUNCTION bench.hand_replay(a_key text, OUT outcome text, OUT answer jsonb) LANGUAGE plpgsql STABLE AS $$
DECLARE
    found bench.idempotency_key;
BEGIN
    SELECT * INTO found FROM bench.idempotency_key WHERE key = a_key AND expires_at > now();
    IF found.key IS NULL THEN
        outcome := 'absent';
    ELSIF found.finished_at IS NULL THEN
        outcome := 'in_progress';
    ELSE
        outcome := 'replay';
        answer := found.response;
    END IF;
END $$;

-- Claim, work and answer in one call.
CREATE FUNCTION bench.hand_run(a_key text, request jsonb, OUT outcome text, OUT answer jsonb) LANGUAGE plpgsql AS $$
DECLARE
    hash  bytea := sha256(convert_to(request::text, 'UTF8'));
    found bench.idempotency_key;
BEGIN
    INSERT INTO bench.idempotency_key (key, request_hash) VALUES (a_key, hash)
    ON CONFLICT (key) DO NOTHING
    RETURNING key INTO found.key;
    IF found.key IS NOT NULL THEN
        outcome := 'executed';
        answer := bench.pay(request);
        UPDATE bench.idempotency_key SET response = hand_run.answer, finished_at = now() WHERE key = a_key;
        RETURN;
    END IF;
    SELECT * INTO found FROM bench.idempotency_key WHERE key = a_key;
    IF found.request_hash <> hash THEN
        outcome := 'mismatch';
    ELSIF found.finished_at IS NULL THEN
        outcome := 'in_progress';
    ELSE
        outcome := 'replay';
        answer := found.response;
    END IF;
END $$;
