"""Moving a database by logical replication, as docs/moving.md says: what arrives, and what the new side knows of the rest."""

import contextlib

from calls import call_everything
from common import EXTENSION
from harness import Cluster, Session, current_prefix, same, wait_until
from update import claim, new_key

# What the page has to be typed on the new side before clients come.
POSITIONS = """
SELECT setval('idempotent.fence', GREATEST((SELECT last_value FROM idempotent.fence), (SELECT max(fence) FROM idempotent.record_logged),
                                           (SELECT max(fence) FROM idempotent.locks), (SELECT max(fence) FROM idempotent.outbox_message)) + 1000000000);
SELECT setval('idempotent.outbox_position', GREATEST((SELECT max(position) FROM idempotent.outbox_message), (SELECT max(position) FROM idempotent.outbox_dead), 0) + 1000000000);
"""
RELATIONS = ("SELECT string_agg(concat(s.srrelid::regclass, ' ', s.srsubstate), ', ' ORDER BY 1) FROM pg_subscription_rel AS s "
             "WHERE s.srsubstate <> 'r'")


@contextlib.contextmanager
def publisher(server, name):
    with current_prefix(server.major) as prefix, Cluster(prefix, server.major, f"{name}-{server.major}", settings={"wal_level": "logical"}) as running:
        yield running


def publish(server):
    """A database in which everything was used, and is published; the dated keys of an unlogged and a logged operation."""
    source, keys = server.database(), {}
    with Session(server, source) as session:
        call_everything(session, "before")
    server.must("SELECT idempotent_operation('safe', durability => 'logged')", source)
    for operation in ("charge", "safe"):
        keys[operation] = new_key(server, source)
        server.must(f"SELECT idempotent_run('{operation}', '{keys[operation]}', '{{}}', 'work(jsonb)')", source)
    server.must("SELECT idempotent_first('billing', 'm1'), idempotent_advance('billing', 'p', 5), idempotent_outbox_put('topic', '1', 'k');"
                """SELECT idempotent_saga('saga', '[{"name": "a", "handler": "public.work(jsonb)"}, {"name": "b", "handler": "public.work(jsonb)"}]');"""
                "SELECT idempotent_saga_step('saga', 'k'); CREATE PUBLICATION moving FOR ALL TABLES", source)
    return source, keys


def subscribe(server, old, source, target):
    server.must(f"CREATE SUBSCRIPTION moving_{target} CONNECTION 'host={old.base} port={old.port} user=postgres dbname={source}' PUBLICATION moving", target)


def is_copied(server, target):
    return server.value(RELATIONS, target) == ""


def logical_replication_carries_what_is_logged(server):
    with publisher(server, "moving") as old:
        source, keys = publish(old)
        # Settings, steps and effects come from there; the tables must be there.
        target = server.database()
        subscribe(server, old, source, target)
        wait_until("everything is copied", lambda: is_copied(server, target))
        late = new_key(old, source)
        old.must(f"SELECT idempotent_run('safe', '{late}', '{{}}', 'work(jsonb)'), idempotent_outbox_put('topic', '2', 'k')", source)
        fence = int(old.value("SELECT fence FROM idempotent_claim('safe', 'leased', '{}', lease => '1 hour')", source))
        wait_until("the rest has come", lambda: server.value("SELECT count(*) FROM idempotent.record_logged WHERE key = 'leased'", target) == "1")
        server.must(f"DROP SUBSCRIPTION moving_{target}", target)
        server.must(POSITIONS, target)
        for key in (keys["safe"], late):
            same("a key of a logged operation", "replay", claim(server, target, key, "safe"))
        same("a dated key of an unlogged one", "unknown", claim(server, target, keys["charge"]))
        same("a new key", "claimed", claim(server, target, new_key(server, target)))
        same("a lease", "in_progress", claim(server, target, "leased", "safe"))
        granted = int(server.value("SELECT fence FROM idempotent_claim('safe', 'next', '{}', lease => '1 hour')", target))
        same(f"fence {granted} is higher than {fence}", True, granted > fence)
        same("a message and an offset", "f|f|t", server.value("SELECT idempotent_first('billing', 'm1'), idempotent_advance('billing', 'p', 5), "
                                                               "idempotent_advance('billing', 'p', 6)", target))
        server.must("SELECT idempotent_outbox_put('topic', '3', 'k')", target)
        same("order", "1 2 3", server.value("SELECT string_agg(payload::text, ' ' ORDER BY n) FROM idempotent_outbox_take('topic') "
                                            "WITH ORDINALITY AS t (message_id, fence, key, payload, attempt, put_at, lease_until, n)", target))
        same("a saga", "completed", server.value("SELECT state FROM idempotent_saga_step('saga', 'k')", target))
        with Session(server, target) as session:
            call_everything(session, "after")


def a_new_side_that_was_used_is_refused_until_its_extension_is_made_anew(server):
    with publisher(server, "used") as old:
        source, keys = publish(old)
        target = server.database()
        server.must("SELECT idempotent_operation('safe', durability => 'logged'); SELECT idempotent_run('safe', 'mine', '{}', 'work(jsonb)')", target)
        since = server.position()
        subscribe(server, old, source, target)
        wait_until("the copy is refused", lambda: any("duplicate key" in line for line in server.complaints(since)))
        server.must(f"DROP SUBSCRIPTION moving_{target}; TRUNCATE effect; DROP EXTENSION {EXTENSION}; CREATE EXTENSION {EXTENSION}", target)
        subscribe(server, old, source, target)
        wait_until("everything is copied", lambda: is_copied(server, target))
        server.must(f"DROP SUBSCRIPTION moving_{target}", target)
        same("a key of a logged operation", "replay", claim(server, target, keys["safe"], "safe"))
        same("a dated key of an unlogged one", "unknown", claim(server, target, keys["charge"]))


def a_publication_of_slots_carries_ends_as_well(server):
    with publisher(server, "slots") as old:
        source, target = old.database(), server.database()
        tables = [f"idempotent.{table}" for table in ("record_logged", "messages", "offsets", "locks", "outbox_message", "outbox_id", "saga_run")]
        old.must("SELECT idempotent_operation('safe', durability => 'logged')", source)
        old.must("CREATE PUBLICATION moving FOR TABLE idempotent.operation, " + ", ".join(f"{table} WHERE (slot >= 0 AND slot < 16384)" for table in tables), source)
        findings = "SELECT count(*), min(remedy) FROM idempotent_doctor() WHERE problem = 'published_in_part'"
        same("what the doctor says", f"{len(tables)}|ALTER TABLE idempotent.locks REPLICA IDENTITY FULL;", old.value(findings, source))
        old.must("; ".join(f"ALTER TABLE {table} REPLICA IDENTITY FULL" for table in tables), source)
        same("what the doctor says", "0|", old.value(findings, source))
        subscribe(server, old, source, target)
        wait_until("everything is copied", lambda: is_copied(server, target))
        old.must("SELECT idempotent_claim('safe', 'k', '{}', lease => '1 hour'); SELECT idempotent_advance('billing', 'p', 5); SELECT idempotent_outbox_put('topic', '1', 'k')", source)
        fence = old.value("SELECT fence FROM idempotent_claim('safe', 'given back', '{}', lease => '1 hour', scope => 'ten')", source)
        old.must(f"SELECT idempotent_release('safe', 'given back', scope => 'ten', fence => {fence}); SELECT idempotent_advance('billing', 'p', 6);"
                 "SELECT idempotent_outbox_ack('topic', array_agg(message_id), min(fence)) FROM idempotent_outbox_take('topic'); SELECT idempotent_forget_scope('ten');"
                 "SELECT idempotent_claim('safe', 'given back', '{}', lease => '1 hour', scope => 'ten'); SELECT idempotent_claim('safe', 'last', '{}', lease => '1 hour')", source)
        wait_until("the last has come", lambda: server.value("SELECT count(*) FROM idempotent.record_logged WHERE key = 'last'", target) == "1")
        for what in ("SELECT string_agg(concat_ws(' ', scope, key, fence), ', ' ORDER BY fence) FROM idempotent.record_logged WHERE state <> 'e'",
                     'SELECT "offset" FROM idempotent.offsets', "SELECT count(*) FROM idempotent.outbox_message"):
            same(what, old.value(what, source), server.value(what, target))
        server.must(f"DROP SUBSCRIPTION moving_{target}", target)


TESTS = (logical_replication_carries_what_is_logged, a_publication_of_slots_carries_ends_as_well, a_new_side_that_was_used_is_refused_until_its_extension_is_made_anew)
