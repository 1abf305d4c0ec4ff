-- What operations have forgotten under earlier settings. A key that was kept for an hour must not run again because the
-- retention is a week today: its record may be gone.
CREATE TABLE idempotent.earlier_retention (
    operation text COLLATE "C" NOT NULL,
    until     timestamptz NOT NULL,
    kept      interval NOT NULL,
    CONSTRAINT earlier_retention_pkey PRIMARY KEY (operation, until)
);
COMMENT ON TABLE idempotent.earlier_retention IS 'settings of operations under which records were kept for less than today; written by a trigger of idempotent.operation';
COMMENT ON COLUMN idempotent.earlier_retention.operation IS 'the operation; empty: the extension, which was made then';
COMMENT ON COLUMN idempotent.earlier_retention.until IS 'keys with an earlier date may have been stored under those settings';
COMMENT ON COLUMN idempotent.earlier_retention.kept IS 'how long after the date of its key a record was kept, at least: a key that is older and has no record is expired';

-- Part of a dump, as settings are.
SELECT pg_catalog.pg_extension_config_dump('idempotent.earlier_retention', '');
INSERT INTO idempotent.earlier_retention VALUES ('', pg_catalog.clock_timestamp(), '0');
