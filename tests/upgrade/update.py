"""Before, during and after ALTER EXTENSION UPDATE, with the current library all the while."""

import subprocess

from calls import all_functions_of, call_everything, replay_everything
from common import EXTENSION
from harness import OLD, Session, Wrong, same, wait_until


def expire(server, database, operation):
    """Leaves a record that expires at once."""
    server.must(f"BEGIN; SELECT idempotent_claim('{operation}', 'short'); "
                f"SELECT idempotent_complete('{operation}', 'short', retention => '1 microsecond'); COMMIT", database)


def is_swept(server, database, operation):
    return server.value(f"SELECT count(*) FROM idempotent.record WHERE operation = '{operation}'", database) == "0"


def claim(server, database, key, operation="charge"):
    """What a claim of this key is answered; one that is given is given back."""
    answer = server.value(f"SELECT outcome, CASE WHEN outcome = 'claimed' THEN idempotent_release('{operation}', '{key}') END "
                          f"FROM idempotent_claim('{operation}', '{key}', '{{}}')", database)
    return answer.split("|")[0]


def new_key(server, database):
    return server.value("SELECT idempotent_new_key()", database)


def the_new_library_works_on_the_old_schema(server):
    database, began = server.database(OLD), server.position()
    all_functions_of(server, database)
    with Session(server, database) as session:
        call_everything(session, "old")
        call_everything(session, "again")
    replay_everything(server, database, "old")
    same("the server log", [], server.complaints(began))


def the_worker_sweeps_the_old_schema(server):
    database, began = server.database(OLD), server.position()
    expire(server, database, "brief")
    wait_until("the worker has deleted an expired record", lambda: is_swept(server, database, "brief"))
    same("the server log", [], server.complaints(began))


def a_crash_before_the_update_does_no_harm(server):
    """Version 0.1 does not notice what it loses, but it loses nothing else and goes on."""
    database = server.database(OLD)
    with Session(server, database) as session:
        call_everything(session, "lost")
        session.ask("SELECT idempotent_operation('safe', durability => 'logged');")
        session.expect("SELECT outcome FROM idempotent_run('safe', 'kept', '{}', 'work(jsonb)');", "executed")
    key = new_key(server, database)
    began = server.position()
    server.crash()
    same("a dated key", "claimed", claim(server, database, key))
    same("a logged record", "replay", claim(server, database, "kept", "safe"))
    with Session(server, database) as session:
        call_everything(session, "lost")
    server.update(database)
    with Session(server, database) as session:
        call_everything(session, "found")
    replay_everything(server, database, "lost")
    same("the server log", [], server.complaints(began))


def sessions_go_on_over_an_update(server):
    database, began = server.database(OLD), server.position()
    with Session(server, database) as updater, Session(server, database) as other:
        for session, name in ((updater, "mine"), (other, "others")):
            call_everything(session, f"{name}-before")
        updater.expect(f"ALTER EXTENSION {EXTENSION} UPDATE;", "")
        for session, name in ((updater, "mine"), (other, "others")):
            call_everything(session, f"{name}-after")
            session.expect("SELECT version = schema_version, last_reset FROM idempotent.health;", "t|")
            session.expect("SELECT count(*) FROM idempotent.backlog;", "4")
    for name in ("mine-before", "others-before", "mine-after", "others-after"):
        replay_everything(server, database, name)
    same("the server log", [], server.complaints(began))


def a_crash_right_after_an_update_is_noticed(server):
    """Also where nobody has called anything in between."""
    database = server.database(OLD)
    with Session(server, database) as session:
        call_everything(session, "before")
        session.ask("SELECT idempotent_operation('safe', durability => 'logged');")
    key = new_key(server, database)
    server.update(database)
    server.crash()
    same("a dated key from before", "unknown", claim(server, database, key))
    same("one that has no date", "claimed", claim(server, database, "undated"))
    same("a new one", "claimed", claim(server, database, new_key(server, database)))
    same("the logged table", "claimed", claim(server, database, key, "safe"))
    same("the tables that were reset", "unlogged",
         server.value("SELECT durability FROM idempotent.reset WHERE reset_at IS NOT NULL", database))
    same("health", "t", server.value("SELECT last_reset IS NOT NULL FROM idempotent.health", database))


def an_update_waits_for_no_claim(server):
    database, began = server.database(OLD), server.position()
    run = "SELECT outcome FROM idempotent_run('charge', $1, '{}', 'work(jsonb)')"
    with Session(server, database) as holder, Session(server, database) as leaser, Session(server, database) as reader:
        holder.ask(f"PREPARE run AS {run};")
        holder.expect("EXECUTE run('first');", "executed")
        holder.expect("BEGIN; SELECT outcome FROM idempotent_claim('charge', 'held', '{}');", "claimed")
        leaser.expect("SELECT outcome, fence FROM idempotent_claim('charge', 'leased', '{}', lease => '1 hour') \\gset\n"
                      "SELECT :'outcome';", "claimed")
        reader.expect("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT outcome FROM idempotent_replay('charge', 'first');", "replay")
        server.update(database)
        same("the key that is held", "in_progress",
             server.value("SELECT outcome FROM idempotent_claim('charge', 'held', '{}', wait => '0')", database))
        holder.expect("SELECT idempotent_complete('charge', 'held', '{\"a\": 1}'); COMMIT;", '{"a": 1}')
        holder.expect("EXECUTE run('first');", "replay")
        holder.expect("EXECUTE run('second');", "executed")
        leaser.expect("SELECT idempotent_complete('charge', 'leased', '{\"a\": 2}', fence => :fence);", '{"a": 2}')
        reader.expect("SELECT outcome FROM idempotent_claim('charge', 'third', '{}'); SELECT idempotent_complete('charge', 'third'); COMMIT;",
                      "claimed")
    for key in ("first", "held", "second", "leased", "third"):
        same(key, "replay", claim(server, database, key))
    same("the server log", [], server.complaints(began))


LOAD = """\\set n random(1, 1000000000000000)
SELECT outcome FROM idempotent_run('charge', 'r' || :n, '{}', 'work(jsonb)');
BEGIN;
SELECT outcome FROM idempotent_claim('charge', 'c' || :n);
INSERT INTO effect VALUES ('{}');
SELECT idempotent_complete('charge', 'c' || :n);
COMMIT;
"""


def clients_do_not_notice_an_update(server):
    database, began = server.database(OLD), server.position()
    expire(server, database, "brief")
    script = server.base / "load.sql"
    script.write_text(LOAD)
    clients, rounds = 4, 1500
    effects = lambda: int(server.value("SELECT count(*) FROM effect", database))
    command = [str(server.prefix / "bin" / "pgbench"), "-n", "-M", "prepared", "-c", str(clients), "-t", str(rounds), "-f", str(script)]
    with subprocess.Popen(command, env=server.env(database), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          universal_newlines=True) as load:
        wait_until("the clients are at work", lambda: effects() > 100 or load.poll() is not None)
        server.update(database)
        at_update = effects()
        output = load.communicate()[0]
    if load.returncode != 0 or at_update >= 2 * clients * rounds:
        raise Wrong(f"{at_update} effects at the time of the update, and then:\n{output}")
    same("effects", 2 * clients * rounds, effects())
    same("records", str(2 * clients * rounds), server.value("SELECT count(*) FROM idempotent.record WHERE operation = 'charge'", database))
    wait_until("the worker has deleted an expired record", lambda: is_swept(server, database, "brief"))
    same("the server log", [], server.complaints(began))


def databases_of_both_versions_are_served_at_once(server):
    old, new, updated = server.database(OLD), server.database(), server.database(OLD)
    server.update(updated)
    versions = {old: OLD, new: "new", updated: "new"}
    keys = {database: new_key(server, database) for database in versions}
    for database in versions:
        with Session(server, database) as session:
            call_everything(session, "before")
        expire(server, database, "brief")
    for database in versions:
        wait_until(f"the worker has swept {database}", lambda: is_swept(server, database, "brief"))
    server.crash()
    for database, version in versions.items():
        expected = "claimed" if version == OLD else "unknown"
        same(f"a dated key in a schema of version {version}", expected, claim(server, database, keys[database]))
        expire(server, database, "brief")
        wait_until(f"the worker has swept {database}", lambda: is_swept(server, database, "brief"))
    server.update(old)
    with Session(server, old) as session:
        call_everything(session, "after")


def may_call(server, database, role):
    """How many of the functions for callers a role may call, and how many there are."""
    return server.value(f"SELECT count(*) FILTER (WHERE has_function_privilege('{role}', p.oid, 'EXECUTE')), count(*) FROM pg_proc AS p "
                        f"JOIN pg_depend AS d ON d.objid = p.oid AND d.deptype = 'e' AND d.classid = 'pg_proc'::regclass "
                        f"WHERE proname IN ('idempotent_claim', 'idempotent_first', 'idempotent_advance', 'idempotent_lock', 'idempotent_unlock')",
                        database)


def new_functions_are_granted_again(server):
    """As docs/operating.md says: an update grants nothing, or a dump would be without it; granting again gives what is new."""
    database = server.database(OLD)
    server.must("CREATE ROLE app", database)
    try:
        server.must("SELECT idempotent_grant('app')", database)
        same("before the update", "1|1", may_call(server, database, "app"))
        server.update(database)
        same("after the update", "1|6", may_call(server, database, "app"))
        server.must("SELECT idempotent_grant('app')", database)
        same("granted again", "6|6", may_call(server, database, "app"))
        same("what a dump would leave out", "0", server.value("SELECT count(*) FROM pg_init_privs WHERE initprivs::text LIKE '%app=%'", database))
    finally:
        server.must("DROP OWNED BY app; DROP ROLE app", database)


TESTS = (the_new_library_works_on_the_old_schema, the_worker_sweeps_the_old_schema, a_crash_before_the_update_does_no_harm,
         sessions_go_on_over_an_update, a_crash_right_after_an_update_is_noticed, an_update_waits_for_no_claim,
         clients_do_not_notice_an_update, databases_of_both_versions_are_served_at_once, new_functions_are_granted_again)
