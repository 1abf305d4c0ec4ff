-- Everything but the functions and the result type lives in this schema. Its name is fixed, so that the
-- library finds its tables whatever the caller's search_path is.
CREATE SCHEMA idempotent;
COMMENT ON SCHEMA idempotent IS 'pg_idempotent: settings, records and views';

-- All tables are heaps, whatever default_table_access_method says: the library reads and writes them as such.
--
-- name is COLLATE "C": the library looks it up by bytes, and so must the index.
CREATE TABLE idempotent.operation (
    name                text COLLATE "C" PRIMARY KEY,
    retention           interval NOT NULL DEFAULT '24 hours',
    failure_retention   interval NOT NULL DEFAULT '5 minutes',
    response_retention  interval,
    lease               interval,
    wait                interval,
    durability          text NOT NULL DEFAULT 'unlogged',
    on_lapse            text NOT NULL DEFAULT 'retry',
    max_response_bytes  integer NOT NULL DEFAULT 1048576,
    scope_required      boolean NOT NULL DEFAULT false,
    fingerprint_exclude text[] NOT NULL DEFAULT '{}',
    store_failures      text[] NOT NULL DEFAULT '{}',
    after_reset         text NOT NULL DEFAULT 'unknown',
    mode                text NOT NULL DEFAULT 'enforce',
    key_dates           text NOT NULL DEFAULT 'use',
    role                text COLLATE "C",
    http_store          text[] NOT NULL DEFAULT '{}',
    http_headers        text[] NOT NULL DEFAULT '{}',
    take_role           text COLLATE "C",
    max_attempts        integer,
    max_lease           interval,
    max_retention       interval,
    key_form            text NOT NULL DEFAULT 'text',
    CONSTRAINT operation_durability CHECK (durability OPERATOR(pg_catalog.=) ANY ('{unlogged,logged}'::pg_catalog.text[])),
    CONSTRAINT operation_on_lapse CHECK (on_lapse OPERATOR(pg_catalog.=) ANY ('{retry,unknown}'::pg_catalog.text[])),
    CONSTRAINT operation_after_reset CHECK (after_reset OPERATOR(pg_catalog.=) ANY ('{unknown,execute}'::pg_catalog.text[])),
    CONSTRAINT operation_mode CHECK (mode OPERATOR(pg_catalog.=) ANY ('{enforce,observe}'::pg_catalog.text[])),
    CONSTRAINT operation_key_dates CHECK (key_dates OPERATOR(pg_catalog.=) ANY ('{use,ignore}'::pg_catalog.text[])),
    CONSTRAINT operation_key_form CHECK (key_form OPERATOR(pg_catalog.=) ANY ('{text,uuid}'::pg_catalog.text[])),
    CONSTRAINT operation_max_response_bytes CHECK (max_response_bytes OPERATOR(pg_catalog.>=) 0),
    CONSTRAINT operation_max_attempts CHECK (max_attempts OPERATOR(pg_catalog.>) 0)
) USING heap;
COMMENT ON TABLE idempotent.operation IS 'the policy of each configured operation; change it with idempotent_operation()';
COMMENT ON COLUMN idempotent.operation.name IS 'the operation, 1 to 255 bytes';
COMMENT ON COLUMN idempotent.operation.retention IS 'how long a finished record answers replays';
COMMENT ON COLUMN idempotent.operation.failure_retention IS 'how long a stored failure answers replays';
COMMENT ON COLUMN idempotent.operation.response_retention IS 'how long the body of an answer is kept; null: as long as the record';
COMMENT ON COLUMN idempotent.operation.lease IS 'default lease of a claim; null: claims are held by the transaction';
COMMENT ON COLUMN idempotent.operation.wait IS 'how long a claim waits for the holder; null: idempotent.default_wait';
COMMENT ON COLUMN idempotent.operation.durability IS 'where records live: unlogged (emptied by a crash) or logged';
COMMENT ON COLUMN idempotent.operation.on_lapse IS 'what a lapsed lease leads to, if it was granted so: retry (the next caller takes over) or unknown';
COMMENT ON COLUMN idempotent.operation.max_response_bytes IS 'a larger answer is recorded without its body';
COMMENT ON COLUMN idempotent.operation.scope_required IS 'refuse calls without a scope';
COMMENT ON COLUMN idempotent.operation.fingerprint_exclude IS 'members of the request that do not count: names at the top level, or JSON Pointers, with * for every element of an array; what is stored already is compared by the members that were left out then';
COMMENT ON COLUMN idempotent.operation.store_failures IS 'SQLSTATEs or classes of a handler''s errors that idempotent_run stores as failures';
COMMENT ON COLUMN idempotent.operation.after_reset IS 'what a dated key from before a reset of the unlogged table leads to: unknown or execute';
COMMENT ON COLUMN idempotent.operation.mode IS 'enforce: outcomes are binding; observe: every call goes through, and outcomes are counted';
COMMENT ON COLUMN idempotent.operation.key_dates IS 'use: a UUIDv7 is as old as it says; ignore: keys count as undated, whatever clock has made them';
COMMENT ON COLUMN idempotent.operation.role IS 'the name of a role: only its members may use the operation, and nobody where it is missing; null: every caller with EXECUTE';
COMMENT ON COLUMN idempotent.operation.http_store IS 'which answers of HTTP are completed, failed or released otherwise than by default: 409=fail, 4xx=complete';
COMMENT ON COLUMN idempotent.operation.http_headers IS 'which headers of an answer are kept (+) or left out (-) otherwise than by default; -* leaves out all that are not named';
COMMENT ON COLUMN idempotent.operation.take_role IS 'the name of a role: only its members may take messages of the topic of this name from the outbox, and nobody where it is missing; null: those of role';
COMMENT ON COLUMN idempotent.operation.max_attempts IS 'how often a message of the topic of this name is taken before it becomes a dead letter; null: without limit';
COMMENT ON COLUMN idempotent.operation.max_lease IS 'the longest lease that a caller may ask for; null: any';
COMMENT ON COLUMN idempotent.operation.max_retention IS 'the longest retention that a caller may ask for; null: any';
COMMENT ON COLUMN idempotent.operation.key_form IS 'text: a key is any text; uuid: a key is a UUID, and all its spellings are one key, kept in lower case with hyphens';

-- What an answer has comes first, the fixed widths among it before the texts: no padding, and the nulls that follow are
-- left out of the row (src/pg/table/insert.rs).
CREATE UNLOGGED TABLE idempotent.record (
    record_id           uuid NOT NULL,
    fingerprint         uuid,
    expires_at          timestamptz NOT NULL,
    sweep_at            timestamptz NOT NULL,
    finished_at         timestamptz,
    fingerprint_version smallint,
    slot                smallint NOT NULL,
    state               "char" NOT NULL,
    evicted             boolean NOT NULL,
    operation           text NOT NULL,
    scope               text NOT NULL,
    key                 text NOT NULL,
    response            jsonb,
    status              integer,
    headers             jsonb,
    body                bytea,
    checkpoint          jsonb,
    fence               bigint,
    lease_until         timestamptz,
    claimed_at          timestamptz,
    attempt             integer,
    attempt_id          uuid,
    first_sent          timestamptz,
    CONSTRAINT record_pkey PRIMARY KEY (record_id)
) USING heap;
CREATE INDEX record_sweep_at_idx ON idempotent.record (sweep_at);
CREATE INDEX record_held_idx ON idempotent.record (claimed_at) WHERE state OPERATOR(pg_catalog.=) 'p'::pg_catalog."char";

COMMENT ON TABLE idempotent.record IS 'records of operations with durability unlogged; Postgres empties it after a crash';
COMMENT ON INDEX idempotent.record_sweep_at_idx IS 'what the sweeper has to look at next';
COMMENT ON INDEX idempotent.record_held_idx IS 'the leases; a finished key has no entry';
COMMENT ON COLUMN idempotent.record.record_id IS '128 bits of SHA-256 over operation, scope and key; for a key that is a UUIDv7 its 48 bits of milliseconds take the place of the first';
COMMENT ON COLUMN idempotent.record.fingerprint IS '128 bits of SHA-256 over the canonical request; null: no request was given';
COMMENT ON COLUMN idempotent.record.expires_at IS 'from then on the record counts as absent; infinity for a lease: once it has lapsed, it is unknown what became of the work';
COMMENT ON COLUMN idempotent.record.sweep_at IS 'when the sweeper looks at it next: to evict the body or to delete the record';
COMMENT ON COLUMN idempotent.record.finished_at IS 'when the answer was stored; null while in progress';
COMMENT ON COLUMN idempotent.record.fingerprint_version IS 'algorithm of the fingerprint: 1 canonical jsonb, 2 bytes given by the caller, 3 a request of HTTP; plus 8 for each number of idempotent.exclusion';
COMMENT ON COLUMN idempotent.record.slot IS 'of the owner, idempotent_slot(key, scope): 0 to 16383; -1 in rows that are not records';
COMMENT ON COLUMN idempotent.record.state IS 'p in progress, c completed, f failed, u unknown, s sealed, a settled as absent; e marks a table that has lost nothing';
COMMENT ON COLUMN idempotent.record.evicted IS 'the body was too large to keep, or is past response_retention';
COMMENT ON COLUMN idempotent.record.operation IS 'the operation, compared on every look-up';
COMMENT ON COLUMN idempotent.record.scope IS 'the owner of the key, compared on every look-up; empty: the key is its own';
COMMENT ON COLUMN idempotent.record.key IS 'the caller''s key, compared on every look-up';
COMMENT ON COLUMN idempotent.record.response IS 'the stored answer';
COMMENT ON COLUMN idempotent.record.status IS 'the caller''s status, e.g. that of HTTP';
COMMENT ON COLUMN idempotent.record.headers IS 'headers of the stored answer; up to 8 KiB outlive the body';
COMMENT ON COLUMN idempotent.record.body IS 'the stored answer, byte for byte';
COMMENT ON COLUMN idempotent.record.checkpoint IS 'what the holder leaves to the next one';
COMMENT ON COLUMN idempotent.record.fence IS 'the fence of the latest lease; null: never leased';
COMMENT ON COLUMN idempotent.record.lease_until IS 'end of the lease; null once finished';
COMMENT ON COLUMN idempotent.record.claimed_at IS 'when the latest lease was granted';
COMMENT ON COLUMN idempotent.record.attempt IS 'how many leases were granted; null: held by a transaction, which is one attempt';
COMMENT ON COLUMN idempotent.record.attempt_id IS 'the caller''s name for the attempt, by which it recognises its own retry';
COMMENT ON COLUMN idempotent.record.first_sent IS 'of a lease: when its holder says that the key was first sent; the answer is kept until that date refuses the key';

CREATE TABLE idempotent.record_logged (
    LIKE idempotent.record INCLUDING COMMENTS,
    CONSTRAINT record_logged_pkey PRIMARY KEY (record_id)
) USING heap;
CREATE INDEX record_logged_sweep_at_idx ON idempotent.record_logged (sweep_at);
CREATE INDEX record_logged_held_idx ON idempotent.record_logged (claimed_at) WHERE state OPERATOR(pg_catalog.=) 'p'::pg_catalog."char";
COMMENT ON TABLE idempotent.record_logged IS 'records of operations with durability logged';
COMMENT ON INDEX idempotent.record_logged_sweep_at_idx IS 'what the sweeper has to look at next';
COMMENT ON INDEX idempotent.record_logged_held_idx IS 'the leases; a finished key has no entry';

-- Logged, whatever becomes of the records: a fence must never be handed out twice, also not after a crash.
CREATE SEQUENCE idempotent.fence;
COMMENT ON SEQUENCE idempotent.fence IS 'fences: one for every lease granted, never reused';

CREATE TABLE idempotent.usage_granted (
    role name PRIMARY KEY
) USING heap;
COMMENT ON TABLE idempotent.usage_granted IS 'roles that idempotent_grant() has given USAGE on the functions'' schema, which idempotent_revoke() takes back';
COMMENT ON COLUMN idempotent.usage_granted.role IS 'the role';
SELECT pg_catalog.pg_extension_config_dump('idempotent.usage_granted', '');

-- Settings travel with pg_dump, records do not; the fences go on where they were.
SELECT pg_catalog.pg_extension_config_dump('idempotent.operation', '');
SELECT pg_catalog.pg_extension_config_dump('idempotent.fence', '');
