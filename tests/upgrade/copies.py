"""Copies of a database: what a dump carries, and what CREATE DATABASE ... TEMPLATE does."""

from calls import call_everything, replay_everything
from harness import OLD, Session, older_cluster, same
from update import claim, new_key


def worked_in(server, version=None):
    """A database in which both tables were used; a dated key that was used in each; the last fence."""
    database = server.database(version)
    with Session(server, database) as session:
        call_everything(session, "before")
    server.must("SELECT idempotent_operation('safe', durability => 'logged', wait => '7 s', store_failures => '{23}')", database)
    keys = {}
    for operation in ("charge", "safe"):
        keys[operation] = new_key(server, database)
        server.must(f"SELECT idempotent_run('{operation}', '{keys[operation]}', '{{}}', 'work(jsonb)')", database)
    fence = int(server.value("SELECT fence FROM idempotent_claim('charge', 'leased', '{}', lease => '1 hour')", database))
    return database, keys, fence


def empty_database(server):
    name = f"db{next(server.numbers)}"
    server.must(f"CREATE DATABASE {name}")
    return name


def settings(server, database):
    return server.value("SELECT o FROM idempotent.operation AS o ORDER BY name", database)


def check_restored(server, source, database, keys, fence):
    same("settings", settings(server, source), settings(server, database))
    same("records", "0", server.value("SELECT count(*) FROM (SELECT operation FROM idempotent.record UNION ALL "
                                      "SELECT operation FROM idempotent.record_logged) AS r WHERE operation <> ''", database))
    for operation, key in keys.items():
        same(f"a dated key of {operation} from before the restore", "unknown", claim(server, database, key, operation))
        same(f"one of {operation} that has no date", "claimed", claim(server, database, "before-done", operation))
        same(f"a new one of {operation}", "claimed", claim(server, database, new_key(server, database), operation))
    granted = int(server.value("SELECT fence FROM idempotent_claim('charge', 'leased', '{}', lease => '1 hour')", database))
    same(f"fence {granted} is higher than {fence}", True, granted > fence)
    with Session(server, database) as session:
        call_everything(session, "after")
    replay_everything(server, database, "after")


def a_restored_database_knows_that_it_has_forgotten(server):
    source, keys, fence = worked_in(server)
    for form, program in (("plain", ("psql", "-X", "-q", "-o", "/dev/null", "-v", "ON_ERROR_STOP=1", "-f")),
                          ("custom", ("pg_restore", "--exit-on-error"))):
        database, file = empty_database(server), server.base / form
        server.client("pg_dump", "-F", form, "-f", file, source)
        server.client(program[0], "-d", database, *program[1:], file)
        check_restored(server, source, database, keys, fence)


def a_restored_database_remembers_messages_offsets_and_locks(server):
    """What stands beside the effects in the restored tables; records, which a restore forgets, are another matter."""
    source, database, file = server.database(), empty_database(server), server.base / "patterns"
    lock = "SELECT acquired, holder, fence FROM idempotent_lock('report', '{}', '1 hour')"
    server.must("SELECT idempotent_first('billing', 'm1'), idempotent_advance('billing', 'p', 5);"
                "SELECT idempotent_operation('billing', mode => 'observe')", source)
    held = server.value(lock.format("one"), source)
    server.client("pg_dump", "-F", "custom", "-f", file, source)
    server.client("pg_restore", "--exit-on-error", "-d", database, file)
    same("a message", "f", server.value("SELECT idempotent_first('billing', 'm1')", database))
    same("another", "t", server.value("SELECT idempotent_first('billing', 'm2')", database))
    same("an offset", "f|t", server.value("SELECT idempotent_advance('billing', 'p', 5), idempotent_advance('billing', 'p', 6)", database))
    same("a lock, for another", "f|one|", server.value(lock.format("two"), database))
    same("a lock, for its holder", held, server.value(lock.format("one"), database))
    same("the mode", "observe", server.value("SELECT mode FROM idempotent.operation WHERE name = 'billing'", database))


def a_dump_carries_the_outbox(server):
    """What was not sent yet still has to be, in its order, and what is put now comes behind it."""
    source = server.database()
    for payload in (1, 2):
        server.must(f"SELECT idempotent_outbox_put('topic', '{payload}', 'k')", source)
    database, file = empty_database(server), server.base / "outbox"
    server.client("pg_dump", "-F", "custom", "-f", file, source)
    server.client("pg_restore", "--exit-on-error", "-d", database, file)
    messages = "SELECT string_agg(concat(position, ' ', message_id, ' ', payload), ', ' ORDER BY position) FROM idempotent.outbox_message"
    same("messages", server.value(messages, source), server.value(messages, database))
    server.must("SELECT idempotent_outbox_put('topic', '3', 'k')", database)
    same("order", "1 2 3", server.value("SELECT string_agg(payload::text, ' ' ORDER BY n) FROM idempotent_outbox_take('topic') "
                                        "WITH ORDINALITY AS t (message_id, fence, key, payload, attempt, put_at, lease_until, n)", database))


def a_dump_carries_sagas(server):
    """The restored tables hold the effects of their steps, which must not be done again."""
    source = server.database()
    server.must("CREATE TABLE done (step text); CREATE FUNCTION act(given jsonb) RETURNS jsonb LANGUAGE sql AS "
                "$$ INSERT INTO done VALUES (given->>'step') RETURNING to_jsonb(1 / (given->>'step')::integer) $$; "
                """SELECT idempotent_saga('saga', '[{"name": "1", "handler": "public.act(jsonb)"}, {"name": "0", "handler": "public.act(jsonb)"}]')""", source)
    server.psql("CALL idempotent_saga_run('saga', 'k')", source)
    database, file = empty_database(server), server.base / "saga"
    server.client("pg_dump", "-F", "custom", "-f", file, source)
    server.client("pg_restore", "--exit-on-error", "-d", database, file)
    sagas = "SELECT concat(state, ' ', step, ' ', done) FROM idempotent.sagas"
    same("saga", "running 0 1", server.value(sagas, database))
    server.must("CREATE OR REPLACE FUNCTION act(given jsonb) RETURNS jsonb LANGUAGE sql AS "
                "$$ INSERT INTO done VALUES (given->>'step') RETURNING '{}'::jsonb $$", database)
    server.must("CALL idempotent_saga_run('saga', 'k')", database)
    same("saga", "completed  2", server.value(sagas, database))
    same("effects", "1 0", server.value("SELECT string_agg(step, ' ') FROM done", database))


def a_sweep_in_the_middle_of_a_restore_does_no_harm(server):
    """The worker visits a database as soon as it is there; the data may come hours later."""
    source, keys, fence = worked_in(server)
    database = empty_database(server)
    for part in ("--schema-only", "--data-only"):
        file = server.base / part.strip("-")
        server.client("pg_dump", "-F", "custom", part, "-f", file, source)
        server.client("pg_restore", "--exit-on-error", "-d", database, file)
        same("rows that were swept", "0", server.value("SELECT idempotent_sweep()", database))
    check_restored(server, source, database, keys, fence)


def a_dump_of_the_schema_alone_makes_a_new_database(server):
    source, keys, _ = worked_in(server)
    database, file = empty_database(server), server.base / "schema"
    server.client("pg_dump", "-F", "custom", "--schema-only", "-f", file, source)
    server.client("pg_restore", "--exit-on-error", "-d", database, file)
    same("settings", "", settings(server, database))
    same("a dated key", "claimed", claim(server, database, keys["charge"]))
    same("resets", "t", server.value("SELECT last_reset IS NULL FROM idempotent.health", database))
    with Session(server, database) as session:
        call_everything(session, "after")


def a_dump_of_an_older_schema_restores_as_the_current_one(server):
    with older_cluster(server, "dump") as site:
        source, keys, fence = worked_in(site, OLD)
        file = site.base / "old"
        site.client("pg_dump", "-F", "custom", "-f", file, source)
        site.replace_files(server)
        site.restart()
        database = empty_database(site)
        site.client("pg_restore", "--exit-on-error", "-d", database, file)
        same("versions", "t", site.value("SELECT version = schema_version FROM idempotent.health", database))
        check_restored(site, source, database, keys, fence)


def a_copied_database_knows_the_keys(server):
    source, keys, _ = worked_in(server)
    for strategy in ("wal_log", "file_copy"):
        database = f"db{next(server.numbers)}"
        server.must(f"CREATE DATABASE {database} TEMPLATE {source} STRATEGY {strategy}")
        replay_everything(server, database, "before")
        same("settings", settings(server, source), settings(server, database))
        for operation, key in keys.items():
            same(f"a key of {operation}", "replay", claim(server, database, key, operation))
            never_used = server.value("SELECT idempotent_new_key(now() - interval '1 hour')", database)
            same(f"a dated key of {operation} without a record", "claimed", claim(server, database, never_used, operation))
        with Session(server, database) as session:
            call_everything(session, "after")
        same("resets", "t", server.value("SELECT last_reset IS NULL FROM idempotent.health", database))
        server.crash()
        unused = new_key(server, source)
        for where in (source, database):
            same(f"after a crash, in {where}", "unknown", claim(server, where, keys["charge"]))
            same(f"after a crash, in {where}", "replay", claim(server, where, keys["safe"], "safe"))
            same(f"a new key, in {where}", "claimed", claim(server, where, unused))
        source, keys, _ = worked_in(server)


TESTS = (a_restored_database_knows_that_it_has_forgotten, a_restored_database_remembers_messages_offsets_and_locks,
         a_dump_carries_the_outbox, a_dump_carries_sagas, a_sweep_in_the_middle_of_a_restore_does_no_harm,
         a_dump_of_the_schema_alone_makes_a_new_database, a_dump_of_an_older_schema_restores_as_the_current_one,
         a_copied_database_knows_the_keys)
