-- Consumer offsets: how far a consumer has come in each partition of a log. Kept for good, and so never swept.
--
-- A row is updated in place over and over, so its page has room for the next version and no index is touched (HOT).
CREATE TABLE idempotent.offsets (
    "offset"    bigint NOT NULL,
    advanced_at timestamptz NOT NULL,
    slot        smallint NOT NULL,
    consumer    text COLLATE "C" NOT NULL,
    scope       text COLLATE "C" NOT NULL,
    partition   text COLLATE "C" NOT NULL,
    CONSTRAINT offsets_pkey PRIMARY KEY (consumer, scope, partition)
) USING heap WITH (fillfactor = 50);
COMMENT ON TABLE idempotent.offsets IS 'how far each consumer has come: see idempotent_advance()';
COMMENT ON COLUMN idempotent.offsets.slot IS 'of the owner, idempotent_slot(partition, scope)';
COMMENT ON COLUMN idempotent.offsets.consumer IS 'the reader';
COMMENT ON COLUMN idempotent.offsets.scope IS 'for whom; empty: the partition is its own owner';
COMMENT ON COLUMN idempotent.offsets.partition IS 'the part of the log that has an order';
COMMENT ON COLUMN idempotent.offsets."offset" IS 'the last one that was processed';
COMMENT ON COLUMN idempotent.offsets.advanced_at IS 'when that was';

-- Part of a dump: the restored tables have the effects of what lies before the offsets.
SELECT pg_catalog.pg_extension_config_dump('idempotent.offsets', '');

CREATE FUNCTION idempotent_advance(
    consumer  text,
    partition text,
    "offset"  bigint,
    scope     text = ''
) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'idempotent_advance';
COMMENT ON FUNCTION idempotent_advance(text, text, bigint, text) IS
'whether the offset lies beyond the stored one, which then moves to it with the caller''s transaction';

CREATE FUNCTION idempotent_rewind(
    consumer  text,
    partition text,
    "offset"  bigint,
    scope     text = ''
) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'idempotent_rewind';
COMMENT ON FUNCTION idempotent_rewind(text, text, bigint, text) IS
'set a stored offset back, so that what lies beyond it is processed again; returns the one that was stored';

CREATE FUNCTION idempotent_forget_offset(
    consumer  text,
    partition text,
    scope     text = ''
) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'idempotent_forget_offset';
COMMENT ON FUNCTION idempotent_forget_offset(text, text, text) IS
'remove a stored offset; returns it, or null if there is none';

REVOKE ALL ON FUNCTION
    idempotent_advance(text, text, bigint, text),
    idempotent_rewind(text, text, bigint, text),
    idempotent_forget_offset(text, text, text)
FROM PUBLIC;
GRANT SELECT ON idempotent.offsets TO pg_monitor;
