-- Locks with a key: held beyond a transaction and a connection, by the holder of the key, for a time. Always logged: a
-- crash must not leave two holders.
CREATE TABLE idempotent.locks (
    expires_at  timestamptz NOT NULL,
    acquired_at timestamptz NOT NULL,
    fence       bigint NOT NULL,
    slot        smallint NOT NULL,
    resource    text COLLATE "C" NOT NULL,
    scope       text COLLATE "C" NOT NULL,
    holder      text COLLATE "C" NOT NULL,
    CONSTRAINT locks_pkey PRIMARY KEY (resource, scope)
) USING heap;
CREATE INDEX locks_expires_at_idx ON idempotent.locks (expires_at);
COMMENT ON TABLE idempotent.locks IS 'locks that are held, or have lapsed and are not yet swept: see idempotent_lock()';
COMMENT ON INDEX idempotent.locks_expires_at_idx IS 'what the sweeper has to look at next';
COMMENT ON COLUMN idempotent.locks.expires_at IS 'from then on any caller may take it';
COMMENT ON COLUMN idempotent.locks.acquired_at IS 'since when its holder has it';
COMMENT ON COLUMN idempotent.locks.fence IS 'the number by which a holder that has lost it is recognised';
COMMENT ON COLUMN idempotent.locks.slot IS 'of the owner, idempotent_slot(resource, scope)';
COMMENT ON COLUMN idempotent.locks.resource IS 'what is locked';
COMMENT ON COLUMN idempotent.locks.scope IS 'the owner of the resource; empty: it is its own';
COMMENT ON COLUMN idempotent.locks.holder IS 'the key with which it was taken';

-- Part of a dump: a holder that was granted a lock relies on it until it ends.
SELECT pg_catalog.pg_extension_config_dump('idempotent.locks', '');

CREATE FUNCTION idempotent_lock(
    resource       text,
    key            text,
    ttl            interval,
    scope          text = '',
    OUT acquired   boolean,
    OUT fence      bigint,
    OUT holder     text,
    OUT expires_at timestamptz
)
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_lock';
COMMENT ON FUNCTION idempotent_lock(text, text, interval, text) IS
'take a resource for a time, or extend it with the same key; returns the holder, and waits only for a transaction that has not yet ended with it';

CREATE FUNCTION idempotent_unlock(
    resource text,
    key      text,
    scope    text = '',
    fence    bigint = NULL
) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_unlock';
COMMENT ON FUNCTION idempotent_unlock(text, text, text, bigint) IS
'give a resource back; false if it is no longer held with this key and fence';

REVOKE ALL ON FUNCTION idempotent_lock(text, text, interval, text), idempotent_unlock(text, text, text, bigint) FROM PUBLIC;
GRANT SELECT ON idempotent.locks TO pg_monitor;
