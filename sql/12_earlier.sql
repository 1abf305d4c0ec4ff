-- What operations have forgotten under earlier settings. A key that was kept for an hour must not run again because the
-- retention is a week today: its record may be gone.
CREATE TABLE idempotent.earlier_retention (
    operation text COLLATE "C" NOT NULL,
    until     timestamptz NOT NULL,
    kept      interval NOT NULL,
    CONSTRAINT earlier_retention_pkey PRIMARY KEY (operation, until)
) USING heap;
COMMENT ON TABLE idempotent.earlier_retention IS 'settings of operations under which records were kept for less than today; written by a trigger of idempotent.operation';
COMMENT ON COLUMN idempotent.earlier_retention.operation IS 'the operation; empty: the extension, which was made then';
COMMENT ON COLUMN idempotent.earlier_retention.until IS 'keys with an earlier date may have been stored under those settings; infinity until the change of them commits';
COMMENT ON COLUMN idempotent.earlier_retention.kept IS 'how long after the date of its key a record was kept, at least: a key that is older and has no record is expired';

-- Part of a dump, as settings are.
SELECT pg_catalog.pg_extension_config_dump('idempotent.earlier_retention', '');
INSERT INTO idempotent.earlier_retention VALUES ('', pg_catalog.clock_timestamp(), '0');

-- The sets of members that do not count for fingerprints, by number: what is stored with one is compared by it, whatever the
-- operation excludes today.
CREATE TABLE idempotent.exclusion (
    operation text COLLATE "C" NOT NULL,
    number    smallint NOT NULL,
    members   text[] NOT NULL,
    CONSTRAINT exclusion_pkey PRIMARY KEY (operation, number)
) USING heap;
COMMENT ON TABLE idempotent.exclusion IS 'what operations exclude from fingerprints, and did; written by a trigger of idempotent.operation';
COMMENT ON COLUMN idempotent.exclusion.operation IS 'the operation';
COMMENT ON COLUMN idempotent.exclusion.number IS 'of the set, from 1; 0 is the empty one, and needs no row';
COMMENT ON COLUMN idempotent.exclusion.members IS 'its fingerprint_exclude';

-- Part of a dump: where sagas stand comes with their fingerprints.
SELECT pg_catalog.pg_extension_config_dump('idempotent.exclusion', '');
