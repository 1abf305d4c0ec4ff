-- A topic is its operation's: role says who puts, take_role who takes, acknowledges and gives back; asked of the call.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
DROP ROLE IF EXISTS regress_idempotent_treasury, regress_idempotent_relay, regress_idempotent_outsider;
RESET client_min_messages;
\set SHOW_CONTEXT never
CREATE ROLE regress_idempotent_treasury;
CREATE ROLE regress_idempotent_relay;
CREATE ROLE regress_idempotent_outsider;
SELECT idempotent_grant(r) FROM unnest('{regress_idempotent_treasury,regress_idempotent_relay,regress_idempotent_outsider}'::regrole[]) AS r;
GRANT EXECUTE ON FUNCTION idempotent_outbox_take, idempotent_outbox_ack, idempotent_outbox_release, idempotent_outbox_redrive
    TO regress_idempotent_treasury, regress_idempotent_relay, regress_idempotent_outsider;
-- what each call of a role is answered; nothing of it stays
CREATE FUNCTION topic_calls(topic text) RETURNS TABLE (call text, answer text) LANGUAGE plpgsql AS $$
BEGIN
    FOREACH call IN ARRAY ARRAY['put(TOPIC, ''1'')', 'take(TOPIC)', 'ack(TOPIC, ''{}'', 1)', 'release(TOPIC, ''{}'', 1)', 'redrive(TOPIC)'] LOOP
        BEGIN
            EXECUTE 'SELECT FROM idempotent_outbox_' || replace(call, 'TOPIC', quote_nullable(topic));
            answer := 'accepted';
            RAISE EXCEPTION SQLSTATE '00UND';
        EXCEPTION WHEN SQLSTATE '00UND' THEN NULL;
                  WHEN OTHERS THEN answer := SQLSTATE;
        END;
        RETURN NEXT;
    END LOOP;
END $$;
CREATE FUNCTION topic_lent(topic text) RETURNS TABLE (call text, answer text) LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM topic_calls(topic)';

-- role alone: for all of it
SELECT role, take_role FROM idempotent_operation('payouts', role => 'regress_idempotent_treasury');
SET ROLE regress_idempotent_treasury;
SELECT * FROM topic_calls('payouts');
SET ROLE regress_idempotent_outsider;
SELECT * FROM topic_calls('payouts');
SELECT idempotent_outbox_put('payouts', '{"amount": 1000}');
-- and nothing is told of names, whoever asks
SELECT * FROM topic_calls('');
SELECT * FROM topic_calls(NULL);
-- a topic without a role is for all
SELECT * FROM topic_calls('open');
RESET ROLE;
-- two roles
SELECT role, take_role FROM idempotent_operation('payouts', take_role => 'regress_idempotent_relay');
SET ROLE regress_idempotent_treasury;
SELECT * FROM topic_calls('payouts');
SET ROLE regress_idempotent_relay;
SELECT * FROM topic_calls('payouts');
SET ROLE regress_idempotent_outsider;
SELECT * FROM topic_calls('payouts');
RESET ROLE;
-- take_role alone: every caller puts
SELECT role, take_role FROM idempotent_operation('payouts', role => '-');
SET ROLE regress_idempotent_outsider;
SELECT * FROM topic_calls('payouts');
RESET ROLE;
SELECT role, take_role FROM idempotent_operation('payouts', role => 'regress_idempotent_treasury', take_role => '-');

-- by a function of a role that may, an outsider may what that function does
SET ROLE regress_idempotent_outsider;
SELECT * FROM topic_lent('payouts');
RESET ROLE;
-- and the other way round: a function of an outsider may no more than he, in whose session ever it runs
GRANT CREATE ON SCHEMA public TO regress_idempotent_outsider;
ALTER FUNCTION topic_lent(text) OWNER TO regress_idempotent_outsider;
SELECT * FROM topic_lent('payouts');
SET SESSION AUTHORIZATION regress_idempotent_treasury;
SELECT * FROM topic_lent('payouts');
RESET SESSION AUTHORIZATION;
-- nor in a trigger or an index expression of an outsider's that a member runs
SET ROLE regress_idempotent_outsider;
CREATE TABLE topic_trap (n integer);
CREATE FUNCTION topic_trap() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM idempotent_outbox_put('payouts', '{"amount": 1000}');
    RETURN NEW;
END $$;
CREATE TRIGGER topic_trap BEFORE INSERT ON topic_trap FOR EACH ROW EXECUTE FUNCTION topic_trap();
RESET ROLE;
INSERT INTO topic_trap VALUES (1);
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM idempotent.outbox_message WHERE topic = 'payouts';
-- what is behind the doors is for nobody
SET ROLE regress_idempotent_outsider;
SELECT idempotent.outbox_put('payouts', '1', NULL, NULL);
SELECT idempotent.outbox_wait('payouts', 1, false);
SELECT idempotent.outbox_count('payouts', 'claimed', 1);
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
-- a handler's message is put with the caller's rights, as all that a handler does
CREATE FUNCTION topic_pay(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(idempotent_outbox_put('payouts', $1) IS NOT NULL) $$;
SET ROLE regress_idempotent_outsider;
SELECT outcome FROM idempotent_run('topic', 'k', '1', 'topic_pay');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
-- the bounds of the operation count for a topic, too
SELECT max_lease, scope_required FROM idempotent_operation('bounded', max_lease => '1 minute', scope_required => true);
SELECT idempotent_outbox_put('bounded', '1', 'k');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_outbox_put('bounded', '1', 'k', scope => 'tenant') IS NOT NULL AS put;
SELECT count(*) FROM idempotent_outbox_take('bounded', lease => '61 seconds');
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM idempotent_outbox_take('bounded', lease => '1 minute');
DELETE FROM idempotent.outbox_message WHERE topic = 'bounded';
DELETE FROM idempotent.operation WHERE name IN ('payouts', 'bounded');
DROP OWNED BY regress_idempotent_treasury, regress_idempotent_relay, regress_idempotent_outsider;
SET client_min_messages = warning;
DROP FUNCTION IF EXISTS topic_calls, topic_lent, topic_pay;
DROP ROLE regress_idempotent_treasury, regress_idempotent_relay, regress_idempotent_outsider;
