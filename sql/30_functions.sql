-- Callers' functions. Their library symbols carry the same names; the arguments are the contract.

CREATE FUNCTION idempotent_claim(
    operation   text,
    key         text,
    request     jsonb = NULL,
    scope       text = '',
    lease       interval = NULL,
    wait        interval = NULL,
    first_sent  timestamptz = NULL,
    attempt_id  uuid = NULL,
    fingerprint bytea = NULL,
    strict      boolean = false
) RETURNS idempotent_result
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_claim';
COMMENT ON FUNCTION idempotent_claim(text, text, jsonb, text, interval, interval, timestamptz, uuid, bytea, boolean) IS
'claim a key: claimed says do the work, replay brings the stored answer';

CREATE FUNCTION idempotent_complete(
    operation text,
    key       text,
    response  jsonb = NULL,
    status    integer = NULL,
    scope     text = '',
    fence     bigint = NULL,
    headers   jsonb = NULL,
    body      bytea = NULL,
    retention interval = NULL
) RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_complete';
COMMENT ON FUNCTION idempotent_complete(text, text, jsonb, integer, text, bigint, jsonb, bytea, interval) IS
'store the answer of a claimed key and return it';

CREATE FUNCTION idempotent_fail(
    operation text,
    key       text,
    response  jsonb = NULL,
    status    integer = NULL,
    scope     text = '',
    fence     bigint = NULL,
    headers   jsonb = NULL,
    body      bytea = NULL,
    retention interval = NULL
) RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_fail';
COMMENT ON FUNCTION idempotent_fail(text, text, jsonb, integer, text, bigint, jsonb, bytea, interval) IS
'store a final failure of a claimed key, replayed like an answer';

CREATE FUNCTION idempotent_release(
    operation text,
    key       text,
    scope     text = '',
    fence     bigint = NULL
) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_release';
COMMENT ON FUNCTION idempotent_release(text, text, text, bigint) IS
'give a claimed key back; nothing is stored';

CREATE FUNCTION idempotent_extend(
    operation text,
    key       text,
    lease     interval,
    scope     text = '',
    fence     bigint = NULL
) RETURNS timestamptz
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_extend';
COMMENT ON FUNCTION idempotent_extend(text, text, interval, text, bigint) IS
'heartbeat: the lease lasts for this long from now; returns its new end';

CREATE FUNCTION idempotent_extend_all(
    operation text,
    keys      text[],
    fences    bigint[],
    lease     interval,
    scope     text = ''
) RETURNS SETOF text
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME', 'idempotent_extend_all';
COMMENT ON FUNCTION idempotent_extend_all(text, text[], bigint[], interval, text) IS
'heartbeat for many leases; returns the keys whose leases are lost';

CREATE FUNCTION idempotent_checkpoint(
    operation  text,
    key        text,
    checkpoint jsonb,
    scope      text = '',
    fence      bigint = NULL
) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_checkpoint';
COMMENT ON FUNCTION idempotent_checkpoint(text, text, jsonb, text, bigint) IS
'leave word for the next holder';

CREATE FUNCTION idempotent_check() RETURNS void
LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'idempotent_check';
COMMENT ON FUNCTION idempotent_check() IS
'what COMMIT would say of claims that are still open, now: ID009';

CREATE FUNCTION idempotent_replay(
    operation text,
    key       text,
    scope     text = ''
) RETURNS idempotent_result
LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'idempotent_replay';
COMMENT ON FUNCTION idempotent_replay(text, text, text) IS
'what is known of a key; reads only and never claims';

CREATE FUNCTION idempotent_run(
    operation  text,
    key        text,
    request    jsonb,
    handler    text,
    scope      text = '',
    wait       interval = NULL,
    first_sent timestamptz = NULL,
    strict     boolean = false
) RETURNS idempotent_result
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_run';
COMMENT ON FUNCTION idempotent_run(text, text, jsonb, text, text, interval, timestamptz, boolean) IS
'claim the key, call handler(jsonb) returning jsonb, store its answer: one round trip';

CREATE FUNCTION idempotent_explain(
    operation text,
    key       text,
    scope     text = ''
) RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'idempotent_explain';
COMMENT ON FUNCTION idempotent_explain(text, text, text) IS
'why a claim now would be answered as it would';

CREATE FUNCTION idempotent_new_key(at timestamptz = pg_catalog.clock_timestamp()) RETURNS text
LANGUAGE c VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'idempotent_new_key';
COMMENT ON FUNCTION idempotent_new_key(timestamptz) IS
'a new key that carries its date: UUIDv7';

CREATE FUNCTION idempotent_request_key(request jsonb) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'idempotent_request_key';
COMMENT ON FUNCTION idempotent_request_key(jsonb) IS
'a key derived from the request, for callers that send none: equal requests, equal keys';

CREATE FUNCTION idempotent_derive_key(
    operation text,
    key       text,
    label     text,
    scope     text = ''
) RETURNS uuid
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'idempotent_derive_key';
COMMENT ON FUNCTION idempotent_derive_key(text, text, text, text) IS
'a stable key for a downstream call made on behalf of this one';

CREATE FUNCTION idempotent_slot(
    key   text,
    scope text = ''
) RETURNS integer
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'idempotent_slot';
COMMENT ON FUNCTION idempotent_slot(text, text) IS
'the slot of an owner, 0 to 16383: of the scope where there is one, else of the key, whatever the operation';

CREATE FUNCTION idempotent_shard(
    key    text,
    shards integer,
    scope  text = ''
) RETURNS integer
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'idempotent_shard';
COMMENT ON FUNCTION idempotent_shard(text, integer, text) IS
'the shard of an owner''s slot, 0 to shards - 1; growing from n to n+1 shards moves about 1/(n+1) of the slots';

-- Administration. SECURITY DEFINER, because a role that is granted EXECUTE needs no rights on the tables.

CREATE FUNCTION idempotent_operation(
    name                text,
    retention           interval = NULL,
    failure_retention   interval = NULL,
    response_retention  interval = NULL,
    lease               interval = NULL,
    wait                interval = NULL,
    durability          text = NULL,
    on_lapse            text = NULL,
    max_response_bytes  integer = NULL,
    scope_required      boolean = NULL,
    fingerprint_exclude text[] = NULL,
    store_failures      text[] = NULL,
    after_reset         text = NULL,
    mode                text = NULL,
    key_dates           text = NULL,
    role                regrole = NULL,
    http_store          text[] = NULL,
    http_headers        text[] = NULL,
    take_role           regrole = NULL,
    max_attempts        integer = NULL,
    max_lease           interval = NULL,
    max_retention       interval = NULL,
    key_form            text = NULL
) RETURNS idempotent.operation
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'idempotent_operation';
COMMENT ON FUNCTION idempotent_operation(text, interval, interval, interval, interval, interval, text, text, integer, boolean, text[], text[], text, text, text, regrole, text[], text[], regrole, integer, interval, interval, text) IS
'configure an operation; null leaves a setting as it is';

-- Seal, resolve and forget are for administrators, too, but ask for the operation's role like any call.

CREATE FUNCTION idempotent_seal(
    operation text,
    key       text,
    scope     text = ''
) RETURNS idempotent_result
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_seal';
COMMENT ON FUNCTION idempotent_seal(text, text, text) IS
'if it has not run, it never will';

CREATE FUNCTION idempotent_resolve(
    operation text,
    key       text,
    verdict   text,
    response  jsonb = NULL,
    scope     text = ''
) RETURNS idempotent_result
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_resolve';
COMMENT ON FUNCTION idempotent_resolve(text, text, text, jsonb, text) IS
'settle an unknown: completed, failed or absent';

CREATE FUNCTION idempotent_forget(
    operation text,
    key       text,
    scope     text = '',
    fence     bigint = NULL
) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_forget';
COMMENT ON FUNCTION idempotent_forget(text, text, text, bigint) IS
'delete what is known of a key, which can then run again; a lease that lasts is broken by its fence';

CREATE FUNCTION idempotent_forget_all(operation text) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'idempotent_forget_all';
COMMENT ON FUNCTION idempotent_forget_all(text) IS
'delete all records of an operation, between tests or to start over; returns their number';

CREATE FUNCTION idempotent_sweep(max_rows integer = NULL) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'idempotent_sweep';
COMMENT ON FUNCTION idempotent_sweep(integer) IS
'delete what has expired, and bodies past response_retention; returns the number of rows';

CREATE FUNCTION idempotent_grant(role regrole) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'idempotent_grant';
COMMENT ON FUNCTION idempotent_grant(regrole) IS
'let a role call the caller''s functions (not administration)';

CREATE FUNCTION idempotent_revoke(role regrole) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'idempotent_revoke';
COMMENT ON FUNCTION idempotent_revoke(regrole) IS
'take back what idempotent_grant gave';

CREATE FUNCTION idempotent.operation_changed() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_operation_changed';
COMMENT ON FUNCTION idempotent.operation_changed() IS
'tells every session to read the operations'' settings anew';

CREATE TRIGGER operation_changed
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON idempotent.operation
    FOR EACH STATEMENT EXECUTE FUNCTION idempotent.operation_changed();
-- Also where settings arrive by logical replication.
ALTER TABLE idempotent.operation ENABLE ALWAYS TRIGGER operation_changed;
COMMENT ON TRIGGER operation_changed ON idempotent.operation IS
'sessions cache the settings';

REVOKE ALL ON FUNCTION
    idempotent_claim(text, text, jsonb, text, interval, interval, timestamptz, uuid, bytea, boolean),
    idempotent_complete(text, text, jsonb, integer, text, bigint, jsonb, bytea, interval),
    idempotent_fail(text, text, jsonb, integer, text, bigint, jsonb, bytea, interval),
    idempotent_release(text, text, text, bigint),
    idempotent_extend(text, text, interval, text, bigint),
    idempotent_extend_all(text, text[], bigint[], interval, text),
    idempotent_check(),
    idempotent_checkpoint(text, text, jsonb, text, bigint),
    idempotent_replay(text, text, text),
    idempotent_run(text, text, jsonb, text, text, interval, timestamptz, boolean),
    idempotent_explain(text, text, text),
    idempotent_new_key(timestamptz),
    idempotent_request_key(jsonb),
    idempotent_derive_key(text, text, text, text),
    idempotent_slot(text, text),
    idempotent_shard(text, integer, text),
    idempotent_operation(text, interval, interval, interval, interval, interval, text, text, integer, boolean, text[], text[], text, text, text, regrole, text[], text[], regrole, integer, interval, interval, text),
    idempotent_seal(text, text, text),
    idempotent_resolve(text, text, text, jsonb, text),
    idempotent_forget(text, text, text, bigint),
    idempotent_forget_all(text),
    idempotent_sweep(integer),
    idempotent_grant(regrole),
    idempotent_revoke(regrole),
    idempotent.operation_changed()
FROM PUBLIC;
