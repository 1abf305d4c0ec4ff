"""From one version to the next: the library's files are replaced, and then each database is updated."""

import contextlib
import threading
import time

from build import extension_version
from calls import call_everything, replay_everything
from common import EXTENSION
from harness import OLD, RECONNECT, REFUSED, UPDATE, Lost, Session, Wrong, older_cluster, same, wait_until

# Every function of the library that needs the tables; none of the calls gets as far as to find fault with its arguments.
NEED_TABLES = ("SELECT idempotent_claim('charge', 'k')", "SELECT idempotent_complete('charge', 'k')", "SELECT idempotent_fail('charge', 'k')",
               "SELECT idempotent_release('charge', 'k')", "SELECT idempotent_extend('charge', 'k', '1 s', fence => 1)",
               "SELECT idempotent_checkpoint('charge', 'k', '1', fence => 1)", "SELECT idempotent_replay('charge', 'k')",
               "SELECT idempotent_run('charge', 'k', '{}', 'work(jsonb)')", "SELECT idempotent_explain('charge', 'k')",
               "SELECT idempotent_operation('charge', durability => 'logged')", "SELECT idempotent_seal('charge', 'k')",
               "SELECT idempotent_resolve('charge', 'k', 'absent')", "SELECT idempotent_forget('charge', 'k')", "SELECT idempotent_forget_all('charge')",
               "SELECT idempotent_extend_all('charge', '{k}', '{1}', '1 s')", "SELECT idempotent_sweep()",
               "SELECT idempotent_http_claim('charge', 'k', 'POST', '/')", "SELECT idempotent_http_complete('charge', 'k', 200)",
               "SELECT idempotent_first('charge', 'm')", "SELECT idempotent_first_of('charge', '{m}')",
               "SELECT idempotent_advance('charge', 'p', 1)", "SELECT idempotent_lock('r', 'k', '1 s')", "SELECT idempotent_saga_step('s', 'k')",
               "SELECT idempotent_first_skip_held('charge', '{m}')", "SELECT idempotent_forget_message('charge', 'm')",
               "SELECT idempotent_rewind('charge', 'p', 1)", "SELECT idempotent_forget_offset('charge', 'p')",
               "SELECT idempotent_forget_scope('s')", "SELECT idempotent_export_scope('s')",
               "SELECT idempotent_saga_explain('s', 'k')", "SELECT idempotent_saga_resume('s', 'k')", "SELECT idempotent_saga_abandon('s', 'k')",
               "SELECT idempotent_saga_settle('s', 'k', 'a', 'completed')", "SELECT idempotent_saga_forget('s', 'k')",
               "SELECT idempotent_operation_drop('charge')", "SELECT idempotent.audited('seal', 'charge', NULL)",
               "SELECT idempotent_grant('pg_monitor')", "SELECT idempotent_revoke('pg_monitor')",
               "SELECT idempotent_outbox_put('t', '1')", "SELECT idempotent_outbox_take('t')", "SELECT idempotent_outbox_ack('t', '{}', 1)",
               "SELECT idempotent_outbox_release('t', '{}', 1)", "SELECT idempotent_outbox_redrive('t')", "SELECT idempotent.outbox_wait('t', 1, true)",
               "SELECT idempotent.outbox_fingerprint('t', '1')", "SELECT idempotent.outbox_is_same('t', '1', gen_random_uuid())", "SELECT idempotent.outbox_check_date('t', gen_random_uuid())",
               "SELECT idempotent.outbox_expires('t', gen_random_uuid())", "SELECT idempotent.outbox_count('t', 'claimed', 1)",
               "SELECT idempotent_own(NULL)", "SELECT idempotent_import('{}')", "SELECT idempotent.own_slot('k', '')", "SELECT idempotent.owns(0::smallint)",
               "SELECT idempotent.announce_own()", "SELECT idempotent.wait_for_writers()", "SELECT idempotent.lost_before('logged')", "SELECT idempotent.stop_callers('charge', false)",
               "SELECT idempotent.join_callers('charge')", "SELECT idempotent.fence_above(1)", "SELECT idempotent.position_above(1)",
               "DELETE FROM idempotent.operation")
# What computes, counts or reads catalogs and nothing of ours.
NEED_NONE = {"idempotent_new_key", "idempotent_check", "idempotent_request_key", "idempotent_derive_key", "idempotent_slot", "idempotent_shard",
             "idempotent_stats_reset", "is_configuring", "counters", "samples", "library", "check_saga_name", "check_saga_step", "check_settings"}

OF_THE_LIBRARY = """SELECT DISTINCT proname FROM pg_depend AS d JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
WHERE d.deptype = 'e' AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_idempotent')
AND p.prolang = (SELECT oid FROM pg_language WHERE lanname = 'c')"""

VERSIONS = "SELECT version, schema_version FROM idempotent.health"


def expire(server, database, operation):
    """Puts in a record that has expired."""
    server.must("INSERT INTO idempotent.record (record_id, expires_at, sweep_at, slot, state, evicted, operation, scope, key) "
                f"VALUES (gen_random_uuid(), now(), now(), 0, 'c', false, '{operation}', '', 'short')", database)


def is_swept(server, database, operation):
    return server.value(f"SELECT count(*) FROM idempotent.record WHERE operation = '{operation}'", database) == "0"


def claim(server, database, key, operation="charge"):
    """What a claim of this key is answered; one that is given is given back."""
    answer = server.value(f"SELECT outcome, CASE WHEN outcome = 'claimed' THEN idempotent_release('{operation}', '{key}') END "
                          f"FROM idempotent_claim('{operation}', '{key}', '{{}}')", database)
    return answer.split("|")[0]


def new_key(server, database):
    return server.value("SELECT idempotent_new_key()", database)


def check_refused(session, sql, hint):
    """That the versions do not match is all that is said, with both of them and with what to do."""
    lines = session.ask(f"{sql};").splitlines()
    same(f"{sql}: error and hint", [REFUSED, hint], [line for line in lines if line.startswith(("ERROR:", "WARNING:", "HINT:"))])
    if not any(line.startswith("DETAIL:") and OLD in line and extension_version() in line for line in lines):
        raise Wrong(f"{sql}: DETAIL does not name both versions: {lines}")


def another_schema_is_refused(server):
    database = server.database(OLD)
    called = NEED_NONE | {word.split(".")[-1] for sql in NEED_TABLES for word in sql.replace("(", " ").split() if word.startswith("idempotent")}
    same("functions that nothing calls here", set(), set(server.must(OF_THE_LIBRARY, database).split()) - called - {"operation_changed"})
    with Session(server, database) as session:
        for sql in NEED_TABLES:
            check_refused(session, sql, UPDATE)
        session.expect(f"{VERSIONS};", f"{extension_version()}|{OLD}")
        same("what was written", "0|0", server.value("SELECT (SELECT count(*) FROM effect), (SELECT count(*) FROM idempotent.operation)", database))
        session.expect(f"ALTER EXTENSION {EXTENSION} UPDATE;", "")
        call_everything(session, "updated")
        session.expect(f"{VERSIONS};", f"{extension_version()}|{extension_version()}")


def the_worker_leaves_another_schema_alone(server):
    """And says so, once; other databases are none the worse for it."""
    began, other, mine = server.position(), server.database(OLD), server.database()
    for database in (other, mine):
        expire(server, database, "brief")
    said = lambda: [line for line in server.complaints(began) if f'"{other}"' in line]
    wait_until("the worker has looked at both", lambda: said() and is_swept(server, mine, "brief"))
    with Session(server, mine) as session:
        call_everything(session, "mine")
    failures = lambda: int(server.value("SELECT sweep_failures FROM idempotent.health", other))
    wait_until("the worker has looked at it again", lambda: failures() > 2)
    same("what it says", 1, len(said()))
    same("an expired record", False, is_swept(server, other, "brief"))
    server.update(other)
    wait_until("the worker has deleted an expired record", lambda: is_swept(server, other, "brief"))
    same("the server log", 1, len(server.complaints(began)))


def sessions_notice_that_library_or_schema_is_replaced(server):
    """Where the library is not preloaded, a session has that of the time when it first called."""
    with older_cluster(server, "sessions", preload=False) as site:
        database = site.database()
        began = site.position()
        with Session(site, database) as before, Session(site, database) as holder:
            call_everything(before, "before")
            before.ask("PREPARE run AS SELECT outcome FROM idempotent_run('charge', $1, '{}', 'work(jsonb)');")
            before.expect("EXECUTE run('prepared');", "executed")
            holder.expect("BEGIN; SELECT outcome FROM idempotent_claim('charge', 'held', '{}');", "claimed")
            site.replace_files(server)
            call_everything(before, "replaced")
            before.expect("SELECT idempotent.library()->>'version';", OLD)
            with Session(site, database) as after:
                check_refused(after, "SELECT idempotent_replay('charge', 'prepared')", UPDATE)
                check_refused(before, f"ALTER EXTENSION {EXTENSION} UPDATE", RECONNECT)
                before.expect("EXECUTE run('prepared');", "replay")
                site.update(database)
                check_refused(before, "EXECUTE run('prepared')", RECONNECT)
                check_refused(before, "SELECT idempotent_first('charge', 'm')", RECONNECT)
                check_refused(holder, "SELECT idempotent_complete('charge', 'held', '{}')", RECONNECT)
                holder.expect("ROLLBACK;", "")
                call_everything(after, "after")
                after.expect("SELECT outcome FROM idempotent_run('charge', 'prepared', '{}', 'work(jsonb)');", "replay")
                after.expect("SELECT outcome FROM idempotent_run('charge', 'held', '{}', 'work(jsonb)');", "executed")
        for name in ("before", "replaced", "after"):
            replay_everything(site, database, name)
        same("the server log", [], site.complaints(began, but=(REFUSED,)))


class Client(threading.Thread):
    """Runs one key after the other, each until it is answered, over lost connections and refusals."""

    def __init__(self, server, database, number, calls_per_session):
        super().__init__(daemon=True)
        self.server, self.database, self.number, self.calls_per_session = server, database, number, calls_per_session
        self.done, self.refusals, self.problem, self.is_over = 0, 0, None, False

    def run(self):
        try:
            for session in self.sessions():
                with session, contextlib.suppress(Lost):
                    for _ in range(self.calls_per_session):
                        if not self.call(session):
                            break
        except Exception as problem:  # handed to the test, which is in another thread
            self.problem = problem

    def sessions(self):
        while not self.is_over:
            yield Session(self.server, self.database)
            time.sleep(0.01)  # the server may be down: not as fast as it can be refused

    def call(self, session):
        """False: a new session is needed."""
        key = f"{self.number}-{self.done}"
        operation = ("charge", "safe")[self.done % 2]
        answer = session.ask(f"SELECT outcome FROM idempotent_run('{operation}', '{key}', '\"{key}\"', 'work(jsonb)');")
        # The server may end the connection right behind the answer.
        lines = [line for line in answer.splitlines() if not line.startswith("FATAL:  terminating connection")]
        if lines in (["executed"], ["replay"]):
            self.done += 1
            return not self.is_over
        if REFUSED not in lines or not (UPDATE in lines or RECONNECT in lines):
            raise Wrong(f"{key} was answered: {answer}")
        self.refusals += 1
        time.sleep(0.01)
        return UPDATE in lines and not self.is_over


def at_work(clients, more=30):
    """Waits until each of them has done so many calls more."""
    wanted = [client.done + more for client in clients]

    def is_reached():
        for client in clients:
            if client.problem:
                raise client.problem
        return all(client.done >= done for client, done in zip(clients, wanted))

    wait_until(f"each client has done {more} calls more", is_reached)


def update_under_load(current, preload):
    """Every key has one effect, whatever its call met."""
    with older_cluster(current, "busy" if preload else "busy-unloaded", preload) as site:
        database, began = site.database(), site.position()
        site.must("SELECT idempotent_operation('safe', durability => 'logged')", database)
        clients = [Client(site, database, number, calls_per_session=10**9 if preload else 20) for number in range(4)]
        for client in clients:
            client.start()
        at_work(clients)
        site.replace_files(current)
        if preload:
            at_work(clients)
            same("the library of a new session", OLD, site.value("SELECT idempotent.library()->>'version'", database))
            same("refusals before the restart", 0, sum(client.refusals for client in clients))
            site.restart()
        wait_until("every client was refused", lambda: all(client.refusals or client.problem for client in clients))
        site.update(database)
        at_work(clients)
        for client in clients:
            client.is_over = True
        for client in clients:
            client.join()
            if client.problem:
                raise client.problem
        done = sum(client.done for client in clients)
        same("effects, and keys that have one", f"{done}|{done}",
             site.value("SELECT count(*), count(DISTINCT request) FROM effect", database))
        same("records", str(done), site.value("SELECT (SELECT count(*) FROM idempotent.record WHERE operation = 'charge') + "
                                              "(SELECT count(*) FROM idempotent.record_logged WHERE operation = 'safe')", database))
        same("the server log", [], site.complaints(began, but=(REFUSED, "could not sweep")))


def a_busy_server_that_preloads_the_library_is_updated(server):
    update_under_load(server, preload=True)


def a_busy_server_that_does_not_preload_it_is_updated(server):
    update_under_load(server, preload=False)


def a_crash_around_an_update_is_noticed(server):
    """Between the new library and the update, and right after the update, where nobody has called anything in between."""
    for crashes_first in (True, False):
        with older_cluster(server, f"crash-{'before' if crashes_first else 'after'}") as site:
            database = site.database()
            with Session(site, database) as session:
                call_everything(session, "before")
                session.ask("SELECT idempotent_operation('safe', durability => 'logged');")
                session.expect("SELECT outcome FROM idempotent_run('safe', 'kept', '{}', 'work(jsonb)');", "executed")
            key = new_key(site, database)
            site.replace_files(server)
            site.crash() if crashes_first else site.restart()
            site.update(database)
            if not crashes_first:
                site.crash()
            same("a dated key from before", "unknown", claim(site, database, key))
            same("one that has no date", "claimed", claim(site, database, "undated"))
            same("a new one", "claimed", claim(site, database, new_key(site, database)))
            same("the logged table", "claimed|replay", f"{claim(site, database, key, 'safe')}|{claim(site, database, 'kept', 'safe')}")
            same("the tables that were reset", "unlogged",
                 site.value("SELECT durability FROM idempotent.reset WHERE reset_at IS NOT NULL", database))
            with Session(site, database) as session:
                call_everything(session, "after")


def may_call(server, database, role):
    """How many of the functions for locks a role may call, and how many there are."""
    return server.value(f"SELECT count(*) FILTER (WHERE has_function_privilege('{role}', p.oid, 'EXECUTE')), count(*) FROM pg_proc AS p "
                        f"JOIN pg_depend AS d ON d.objid = p.oid AND d.deptype = 'e' AND d.classid = 'pg_proc'::regclass "
                        f"WHERE proname IN ('idempotent_lock', 'idempotent_unlock')", database)


def new_functions_are_granted_again(server):
    """As docs/operating.md says: an update grants nothing, or a dump would be without it; granting again gives what is new."""
    with older_cluster(server, "grants", preload=False) as site:
        database = site.database()
        site.must("CREATE ROLE app", database)
        site.must("SELECT idempotent_grant('app')", database)
        same("before the update", "1|1", may_call(site, database, "app"))
        site.replace_files(server)
        site.update(database)
        same("after the update", "1|2", may_call(site, database, "app"))
        site.must("SELECT idempotent_grant('app')", database)
        same("granted again", "2|2", may_call(site, database, "app"))
        same("what a dump would leave out", "0", site.value("SELECT count(*) FROM pg_init_privs WHERE initprivs::text LIKE '%app=%'", database))


TESTS = (another_schema_is_refused, the_worker_leaves_another_schema_alone, sessions_notice_that_library_or_schema_is_replaced,
         a_busy_server_that_preloads_the_library_is_updated, a_busy_server_that_does_not_preload_it_is_updated,
         a_crash_around_an_update_is_noticed, new_functions_are_granted_again)
