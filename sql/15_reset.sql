-- How the library knows that records were lost. Each table of records holds one row that is not a record, the
-- marker (state e, record_id of zeros but for the last byte). A table without it was emptied, unless this log
-- says nothing of it yet.
CREATE TABLE idempotent.reset (
    durability text COLLATE "C" NOT NULL,
    noticed_at timestamptz NOT NULL,
    reset_at   timestamptz,
    operation  text,
    PRIMARY KEY (durability, noticed_at)
) USING heap;
COMMENT ON TABLE idempotent.reset IS 'when the tables of records were found empty';
COMMENT ON COLUMN idempotent.reset.durability IS 'which table: unlogged or logged';
COMMENT ON COLUMN idempotent.reset.noticed_at IS 'when it was noticed';
COMMENT ON COLUMN idempotent.reset.reset_at IS 'dated keys from before then may have had a record; null: the table''s first use, nothing was lost';
COMMENT ON COLUMN idempotent.reset.operation IS 'what was lost from the other table goes along with this operation, whose records moved here; null: the whole table; empty: of any operation, another node may have had records, see idempotent_ignorant()';

-- A dump carries the log and no markers: the restored database knows that it has forgotten its keys.
SELECT pg_catalog.pg_extension_config_dump('idempotent.reset', '');
