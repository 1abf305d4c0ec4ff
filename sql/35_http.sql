-- HTTP in two calls, for servers in any language: types that every driver binds without a cast, and one fingerprint for all.

CREATE FUNCTION idempotent_http_claim(
    operation    text,
    key_header   text,
    method       text,
    target       text,
    content_type text = NULL,
    body         bytea = NULL,
    scope        text = '',
    lease        interval = NULL,
    wait         interval = NULL,
    attempt_id   uuid = NULL,
    OUT run      boolean,
    OUT key      text,
    OUT fence    bigint,
    OUT outcome  text,
    OUT status   integer,
    OUT headers  text,
    OUT body     bytea,
    OUT retry_after_seconds integer
)
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_http_claim';
COMMENT ON FUNCTION idempotent_http_claim(text, text, text, text, text, bytea, text, interval, interval, uuid) IS
'claim the key of an HTTP request: run says do the work; else status, headers and body are what to send';

CREATE FUNCTION idempotent_http_complete(
    operation text,
    key       text,
    status    integer,
    headers   text = NULL,
    body      bytea = NULL,
    scope     text = '',
    fence     bigint = NULL
) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_http_complete';
COMMENT ON FUNCTION idempotent_http_complete(text, text, integer, text, bytea, text, bigint) IS
'finish the key of an HTTP request with the answer that is about to be sent; false: the answer is not stored, the key is free again';

REVOKE ALL ON FUNCTION
    idempotent_http_claim(text, text, text, text, text, bytea, text, interval, interval, uuid),
    idempotent_http_complete(text, text, integer, text, bytea, text, bigint)
FROM PUBLIC;
