-- Idempotent consumer: which messages a consumer has seen. Always logged, whatever becomes of records: a message that was
-- forgotten would be taken for new.
--
-- The key begins with the message's id, which tells most rows apart at the first column, and ids that grow stay together.
CREATE TABLE idempotent.messages (
    expires_at timestamptz NOT NULL,
    seen_at    timestamptz NOT NULL,
    slot       smallint NOT NULL,
    consumer   text COLLATE "C" NOT NULL,
    scope      text COLLATE "C" NOT NULL,
    message_id text COLLATE "C" NOT NULL,
    CONSTRAINT messages_pkey PRIMARY KEY (message_id, consumer, scope)
) USING heap;
CREATE INDEX messages_expires_at_idx ON idempotent.messages (expires_at);
COMMENT ON TABLE idempotent.messages IS 'messages that consumers have seen, for as long as they are kept: see idempotent_first()';
COMMENT ON INDEX idempotent.messages_expires_at_idx IS 'what the sweeper has to look at next';
COMMENT ON COLUMN idempotent.messages.expires_at IS 'from then on the message counts as new';
COMMENT ON COLUMN idempotent.messages.seen_at IS 'when it was seen first';
COMMENT ON COLUMN idempotent.messages.slot IS 'of the owner, idempotent_slot(message_id, scope)';
COMMENT ON COLUMN idempotent.messages.consumer IS 'the receiver';
COMMENT ON COLUMN idempotent.messages.scope IS 'the owner of the message; empty: its id';
COMMENT ON COLUMN idempotent.messages.message_id IS 'the sender''s name for the message';

-- Part of a dump: a restored database must not take for new what its tables have the effects of.
SELECT pg_catalog.pg_extension_config_dump('idempotent.messages', '');

CREATE FUNCTION idempotent_first(
    consumer   text,
    message_id text,
    scope      text = '',
    retention  interval = NULL,
    wait       interval = NULL
) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_first';
COMMENT ON FUNCTION idempotent_first(text, text, text, interval, interval) IS
'whether a consumer sees the message for the first time; from then on it has, if the transaction commits';

CREATE FUNCTION idempotent_first_of(
    consumer    text,
    message_ids text[],
    scope       text = '',
    retention   interval = NULL,
    wait        interval = NULL
) RETURNS SETOF text
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME', 'idempotent_first_of';
COMMENT ON FUNCTION idempotent_first_of(text, text[], text, interval, interval) IS
'those of the messages that a consumer sees for the first time, in the order given';

CREATE FUNCTION idempotent_first_skip_held(
    consumer    text,
    message_ids text[],
    scope       text = '',
    retention   interval = NULL,
    wait        interval = '0'
) RETURNS TABLE (message_id text, held boolean)
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME', 'idempotent_first_skip_held';
COMMENT ON FUNCTION idempotent_first_skip_held(text, text[], text, interval, interval) IS
'those of the messages that a consumer sees for the first time, and those that other transactions hold, which are not marked';

CREATE FUNCTION idempotent_forget_message(
    consumer   text,
    message_id text,
    scope      text = ''
) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_forget_message';
COMMENT ON FUNCTION idempotent_forget_message(text, text, text) IS
'let a consumer see a message for the first time again; false if it has not seen it';

REVOKE ALL ON FUNCTION
    idempotent_first(text, text, text, interval, interval),
    idempotent_first_of(text, text[], text, interval, interval),
    idempotent_first_skip_held(text, text[], text, interval, interval),
    idempotent_forget_message(text, text, text)
FROM PUBLIC;
