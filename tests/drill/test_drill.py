"""An operator's drill: each fault is planted on a server, found by idempotent_doctor() or by a statement of docs/operating.md, and mended by what
these two say, typed as it stands there. Afterwards nothing is wrong, and calls go through."""

import itertools

import pytest

import logs
from build import install
from common import Failure
from small_disk import SmallDisk
from people import Operator, Session, wait_until
from server import PRELOADED

# Sweeps at once, and tables that are old after as few transactions as Postgres allows.
SETTINGS = {**PRELOADED, "idempotent.sweep_interval": "'100ms'", "autovacuum_freeze_max_age": "100000"}
MORE_THAN_OLD = 160_000
KEY = "0192d6b8-0000-7000-8000-00000000000"
# A body that no compression makes small.
BODY = "to_jsonb((SELECT string_agg(md5(({} * 4000 + n)::text), '') FROM generate_series(1, 600) AS n))"


@pytest.fixture(scope="module")
def server(request, major, layer):
    with SmallDisk(install(major), SETTINGS, keep_log=logs.directory() / f"{layer}-{major}.log", backtrace=True) as running:
        request.config.servers.append(running)
        yield running
        request.config.servers.remove(running)


def at_work(server, database):
    """An operator, in a new database where nothing is wrong."""
    server.must(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
    server.must(f"CREATE DATABASE {database}")
    operator = Operator(server, database)
    operator.types("CREATE EXTENSION pg_idempotent; SELECT FROM idempotent_operation('card', durability => 'logged'); SELECT FROM idempotent_operation('mail')")
    assert operator.findings() == {}
    return operator


def goes_on(operator, key="'at last'"):
    """Nothing is wrong, once the sweeper has come by, and calls go through."""
    wait_until("nothing is wrong", lambda: operator.findings() == {})
    assert stores(operator, key) == ["claimed", "replay"]
    put_and_take(operator)


@pytest.fixture
def operator(server):
    operator = at_work(server, "drill")
    yield operator
    goes_on(operator)


def stores(operator, key, response="'1'"):
    """Claims a key and stores an answer, and claims it again; what both are answered, or the SQLSTATE."""
    claim = f"SELECT outcome FROM idempotent_claim('card', {key}, '{{}}');"
    code, out, error = operator.server.psql(f"BEGIN; {claim} SELECT FROM idempotent_complete('card', {key}, {response}); COMMIT; {claim}", operator.database)
    return out.split() if code == 0 else error.split("ERROR:  ")[1].split(":")[0]


def put_and_take(operator):
    operator.types("SELECT idempotent_outbox_put('mail', '1')")
    taken = "SELECT fence, count(*), array_agg(message_id) AS ids FROM idempotent_outbox_take('mail', 100, '1 minute') GROUP BY fence"
    acknowledged = operator.types(f"SELECT idempotent_outbox_ack('mail', t.ids, t.fence) = t.count FROM ({taken}) AS t")
    assert acknowledged.split() == ["t"]


TELL = "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$"
# What the doctor finds, and whose remedy is all there is to type.
BY_THE_DOCTOR = {
    "foreign_index": "CREATE INDEX mine ON idempotent.record_logged (operation)",
    "foreign_constraint": "ALTER TABLE idempotent.record_logged ADD CONSTRAINT mine CHECK (key <> 'secret')",
    "foreign_trigger": f"{TELL}; CREATE TRIGGER mine AFTER INSERT ON idempotent.record_logged FOR EACH STATEMENT EXECUTE FUNCTION tell()",
    "foreign_column": "ALTER TABLE idempotent.messages ADD COLUMN source text NOT NULL DEFAULT 'queue'",
    "foreign_rule": "CREATE RULE mine AS ON DELETE TO idempotent.messages DO INSTEAD NOTHING",
    "foreign_inheritance": "CREATE TABLE heir () INHERITS (idempotent.messages)",
    "row_security": "ALTER TABLE idempotent.locks ENABLE ROW LEVEL SECURITY",
    "trigger_off": "ALTER TABLE idempotent.outbox_message DISABLE TRIGGER go_on; ALTER TABLE idempotent.operation DISABLE TRIGGER operation_changed; "
                   "ALTER TABLE idempotent.own ENABLE TRIGGER own_changed",
    "published_in_part": "CREATE PUBLICATION moving FOR TABLE idempotent.record_logged WHERE (slot < 4096)",
    "autovacuum_off": "ALTER TABLE idempotent.record SET (autovacuum_enabled = off)",
    "wrong_persistence": "ALTER TABLE idempotent.messages SET UNLOGGED",
    "invalid_index": "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'idempotent.record_sweep_at_idx'::regclass",
    "surplus_right": "CREATE ROLE clerk LOGIN; GRANT SELECT, DELETE ON idempotent.record_logged TO clerk; GRANT SELECT ON idempotent.operation TO PUBLIC",
    "role_missing": "CREATE ROLE treasury; SELECT FROM idempotent_operation('refund', role => 'treasury'); DROP ROLE treasury",
    "undeclared_operation": "SELECT FROM idempotent_claim('cadr', idempotent_new_key(), lease => '1 minute')",
    "observed_operation": "SELECT FROM idempotent_operation('payout', mode => 'observe')",
    "dates_without_use": "SELECT FROM idempotent_operation('order', key_dates => 'ignore')",
    "retention_without_effect": "SELECT FROM idempotent_operation('book', retention => '1 hour', response_retention => '2 hours')",
    "lease_outlives_answer": "SELECT FROM idempotent_operation('ship', lease => '2 days')",
    "unlogged_without_dates": "SELECT FROM idempotent_operation('sign_up'), idempotent_claim('sign_up', 'order-7', lease => '1 minute')",
    "fences_behind": "SELECT FROM idempotent_claim('card', 'order-7', lease => '1 hour'); SELECT setval('idempotent.fence', 1, false)",
    "wrong_sequence": "ALTER SEQUENCE idempotent.fence INCREMENT -1",
    "positions_behind": "SELECT idempotent_outbox_put('mail', '1'); SELECT setval('idempotent.outbox_position', 1, false)",
}


@pytest.mark.reports
def test_doctor(report, server):
    """One database for all: what one of them leaves behind is seen at the next."""
    operator = at_work(server, "doctors")
    for problem, fault in BY_THE_DOCTOR.items():
        said = None
        try:
            operator.types(fault)
            operator.mends(problem)
            goes_on(operator, f"'{problem}'")
        except (AssertionError, Failure) as wrong:
            said = str(wrong)
        report(problem, said is None, said=said)


def test_dropped_indexes(operator):
    """The sweeper fails without one, and comes back with it. All are made again just as they were."""
    indexes = ("SELECT indexdef FROM pg_indexes WHERE schemaname = 'idempotent' AND indexname NOT IN (SELECT conname FROM pg_constraint) ORDER BY indexname")
    before = operator.types(indexes)
    operator.types("SELECT format('DROP INDEX idempotent.%I', indexname) FROM pg_indexes WHERE schemaname = 'idempotent' "
                   "AND indexname NOT IN (SELECT conname FROM pg_constraint) \\gexec")
    wait_until("the sweeper fails", lambda: "sweeper_fails" in operator.findings())
    operator.mends("missing_index")
    assert operator.types(indexes) == before


def made_again(operator, problem, what, drop):
    """Drops what a query names, and mends all of it."""
    before = operator.types(what)
    operator.types(f"{drop} \\gexec")
    operator.mends(problem)
    assert operator.types(what) == before


def test_dropped_constraints(operator):
    """Calls find nothing without them, and go on as before with them. All are made again just as they were."""
    constraints = "FROM pg_constraint WHERE connamespace = 'idempotent'::regnamespace AND contype <> 'n'"
    what = f"SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) {constraints} ORDER BY 1, 2"
    assert stores(operator, "'order-8'") == ["claimed", "replay"]
    operator.types("ALTER TABLE idempotent.record_logged DROP CONSTRAINT record_logged_pkey, ADD CONSTRAINT record_logged_pkey PRIMARY KEY (record_id) DEFERRABLE")
    assert stores(operator, "'order-8'") == "55000"
    operator.mends("missing_constraint")
    made_again(operator, "missing_constraint", what, f"SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) {constraints}")
    assert operator.types("SELECT outcome FROM idempotent_claim('card', 'order-8', '{}')").strip() == "replay"


def test_dropped_triggers(operator):
    """All are made again just as they were, and as loud."""
    triggers = "FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid WHERE c.relnamespace = 'idempotent'::regnamespace AND NOT t.tgisinternal"
    what = f"SELECT t.tgenabled, pg_get_triggerdef(t.oid) {triggers} ORDER BY 2"
    made_again(operator, "missing_trigger", what, f"SELECT format('DROP TRIGGER %I ON %s', t.tgname, c.oid::regclass) {triggers}")


def test_altered_index(operator):
    operator.types("DROP INDEX idempotent.record_sweep_at_idx; CREATE INDEX record_sweep_at_idx ON idempotent.record (sweep_at, key)")
    operator.mends("missing_index")


def test_column_that_is_gone(server):
    """Nothing brings it back: what is left is said, and what that costs."""
    operator = at_work(server, "columns")
    operator.types("ALTER TABLE idempotent.operation DROP COLUMN max_lease")
    assert "forgets every key" in operator.findings()["wrong_columns"]["remedy"]
    assert stores(operator, "'order-9'") == "55000"


def expired(operator):
    """A record that is due for long."""
    assert stores(operator, "'order-6'") == ["claimed", "replay"]
    # As if time had passed: by hand this would be a loss.
    operator.types("""ALTER TABLE idempotent.record_logged DISABLE TRIGGER record_updated;
                      UPDATE idempotent.record_logged SET sweep_at = '2020-01-01', expires_at = '2020-01-01' WHERE key = 'order-6';
                      ALTER TABLE idempotent.record_logged ENABLE ALWAYS TRIGGER record_updated""")


def is_swept(operator):
    return operator.types("SELECT count(*) FROM idempotent.record_logged WHERE key = 'order-6'").strip() == "0"


def restart(server):
    server.shut_down()
    server.launch()


def test_sweeper_that_is_off(server, operator):
    operator.types("ALTER SYSTEM SET idempotent.sweeper_enabled = off; SELECT pg_reload_conf()")
    wait_until("the setting counts", lambda: "sweeper_off" in operator.findings())
    expired(operator)
    assert "backlog" in operator.findings() and not is_swept(operator)
    operator.mends("sweeper_off")
    wait_until("it sweeps", lambda: is_swept(operator))
    operator.types("ALTER SYSTEM RESET idempotent.sweeper_enabled")


def test_backlog_by_hand(operator):
    operator.types("ALTER SYSTEM SET idempotent.sweeper_enabled = off; SELECT pg_reload_conf()")
    wait_until("the setting counts", lambda: "sweeper_off" in operator.findings())
    expired(operator)
    operator.does("**The sweeper lags**")
    assert is_swept(operator) and "backlog" not in operator.findings()
    operator.mends("sweeper_off")
    operator.types("ALTER SYSTEM RESET idempotent.sweeper_enabled")


def test_library_that_is_not_preloaded(server, operator):
    operator.types("ALTER SYSTEM SET shared_preload_libraries = plpgsql")
    restart(server)
    expired(operator)
    assert "restart the server" in operator.mends("not_preloaded")
    restart(server)
    wait_until("it sweeps", lambda: is_swept(operator))
    operator.types("ALTER SYSTEM RESET shared_preload_libraries")
    restart(server)


def test_table_that_is_locked(operator):
    """By a lock that lets the doctor read, and by one that does not."""
    for mode in ("SHARE", "ACCESS EXCLUSIVE"):
        with Session(operator) as holder, Session(operator) as caller:
            assert holder.tells(f"BEGIN; LOCK TABLE idempotent.record_logged IN {mode} MODE; SELECT 'locked';") == "locked"
            caller.sends(f"SELECT outcome FROM idempotent_claim('card', '{mode}', lease => '1 hour', wait => '1 hour');")
            wait_until("the doctor finds it", lambda: "table_locked" in operator.findings())
            operator.mends("table_locked")
            assert caller.hears() == "claimed"


def test_lease_that_keeps_a_key(operator):
    claim = "SELECT outcome FROM idempotent_claim('card', 'order-8', lease => '1 hour', wait => '0')"
    assert operator.types(claim).strip() == "claimed"
    assert operator.types(claim).strip() == "in_progress"
    assert "lease" in operator.does("**A key is stuck")
    operator.does("*A lease*")
    assert operator.types(claim).strip() == "claimed"


def test_transaction_that_keeps_a_key(operator):
    claim = "SELECT outcome FROM idempotent_claim('card', 'order-8', wait => '0')"
    with Session(operator) as holder:
        assert holder.tells(f"BEGIN; {claim};") == "claimed"
        assert operator.types(claim).strip() == "in_progress"
        assert "transaction" in operator.does("**A key is stuck")
        assert "psql|idle in transaction" in operator.does("*A transaction*").replace("pg_idempotent", "psql")
        wait_until("the key is free", lambda: operator.types(f"BEGIN; {claim}; ROLLBACK").strip() == "claimed")


def test_lease_that_has_lapsed(operator):
    claim = "SELECT outcome FROM idempotent_claim('card', 'order-8', lease => '1 millisecond')"
    operator.types(claim)
    wait_until("it is shown", lambda: "card||order-8|1|" in operator.does("**A lease has lapsed.**"))
    # And the page says that there is nothing to mend.
    assert operator.types(claim).strip() == "claimed"
    assert stores(operator, "'order-8'")


def test_keys_that_await_a_verdict(operator):
    operator.types("SELECT FROM idempotent_operation('payout', on_lapse => 'unknown', durability => 'logged');"
                   "SELECT FROM idempotent_claim('payout', 'order-8', lease => '1 millisecond')")
    claim = "SELECT outcome FROM idempotent_claim('payout', 'order-8', lease => '1 minute')"
    wait_until("it is unknown", lambda: operator.types(claim).strip() == "unknown")
    said = operator.does("**Keys await a verdict.**")
    assert "payout||order-8|lapsed" in said and "resolve|payout|order-8|completed" in said
    assert operator.types(claim).strip() == "replay"


@pytest.mark.parametrize("loss", ["a crash", "TRUNCATE"])
def test_table_that_is_lost(server, loss):
    operator = at_work(server, "drill")
    operator.types(f"SELECT FROM idempotent_operation('payout', durability => '{'unlogged' if loss == 'a crash' else 'logged'}', retention => '10 years');"
                   f"BEGIN; SELECT FROM idempotent_claim('payout', '{KEY}1'); SELECT FROM idempotent_complete('payout', '{KEY}1', '1'); COMMIT")
    if loss == "a crash":
        server.shut_down("immediate")
        server.launch()
    else:
        operator.types("TRUNCATE idempotent.record_logged")
    claim = f"SELECT outcome FROM idempotent_claim('payout', '{KEY}1', lease => '1 minute')"
    assert operator.types(claim).strip() == "unknown"
    assert "records_lost" in operator.findings()
    said = operator.does("**Keys await a verdict.**", order_8=f"{KEY}1")
    assert f"payout||{KEY}1|lost" in said
    assert operator.types(claim).strip() == "replay"
    assert set(operator.findings()) == {"records_lost"}
    assert stores(operator, "'at last'") == ["claimed", "replay"]


def test_relay_that_is_dead(operator):
    operator.types("SELECT idempotent_outbox_put('mail', to_jsonb(n), key => 'Ada') FROM generate_series(1, 3) AS n")
    with Session(operator) as relay:
        assert relay.tells("SELECT count(*) FROM idempotent_outbox_take('mail', 2, lease => '1 day');") == "2"
        relay.kill()
    operator.types("SELECT idempotent_outbox_put('mail', to_jsonb(n), key => 'Ada') FROM generate_series(4, 9) AS n;"
                   "UPDATE idempotent.outbox_message SET put_at = put_at - interval '2 hours'")
    take = "SELECT t.payload FROM idempotent_outbox_take('mail', 100, lease => '1 day') AS t"
    assert operator.types(take) == ""
    assert "outbox_waits" in operator.findings()
    assert "mail|9|7|2|0|1|" in operator.does("**A relay is dead**")
    assert operator.types(take).split() == [str(n) for n in range(1, 10)]
    operator.types("SELECT idempotent_outbox_ack('mail', array_agg(message_id), max(fence)) FROM idempotent.outbox_message")


def test_dead_letters(operator):
    operator.types("SELECT FROM idempotent_operation('mail', max_attempts => 1); SELECT idempotent_outbox_put('mail', '\"Ada\"');"
                   "SELECT FROM idempotent_outbox_take('mail', 1, '1 millisecond')")
    take = "SELECT payload FROM idempotent_outbox_take('mail', 100, '1 day')"
    wait_until("it is dead", lambda: operator.types(take) == "" and "dead_letters" in operator.findings())
    operator.does("**Messages are dead letters**")
    assert operator.types(take).strip() == '"Ada"'
    operator.types("SELECT idempotent_outbox_ack('mail', array_agg(message_id), max(fence)) FROM idempotent.outbox_message")


def test_disk_that_is_full(server, operator):
    """The room that is made for Postgres is gone again afterwards: answers find theirs in what was given up."""
    numbers = itertools.count(1000)

    def store(how_many):
        """Until there is no room; how many there was room for."""
        for stored in range(how_many):
            number = next(numbers)
            said = stores(operator, f"'order-{number}'", BODY.format(number))
            if said == "53100":
                return stored
            assert said == ["claimed", "replay"]
        return how_many
    assert store(40) == 40
    operator.types("UPDATE idempotent.record_logged SET finished_at = finished_at - interval '2 hours'")
    # What lies behind keeps VACUUM from shortening the files: this disk has no room for what they would take again.
    assert store(10) == 10
    with server.full_disk():
        assert store(100) < 100
    assert "record_logged" in operator.does("**The disk is full.**").splitlines()[0]
    operator.does("If that is not enough")
    with server.full_disk():
        assert 35 <= store(100) < 100
        assert operator.types("SELECT outcome, evicted FROM idempotent_claim('card', 'order-1000', '{}')").strip() == "replay|t"


def test_table_that_grows_old(server, operator):
    """Since a session holds a snapshot."""
    operator.types("CREATE TABLE burnt (n integer)")
    with Session(operator) as holder:
        assert holder.tells("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 'held' FROM burnt UNION ALL SELECT 'held';") == "held"
        operator.types(f"DO $$ BEGIN FOR n IN 1 .. {MORE_THAN_OLD} LOOP BEGIN INSERT INTO burnt VALUES (n); EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$")
        assert "wraparound" in operator.findings()
        assert "idle in transaction" in operator.does("**Vacuum does not keep up**")
        assert "wraparound" in operator.findings(), "the holder is still there"
    operator.mends("wraparound")
    # The other databases of this server have grown old, too.
    server.run("vacuumdb", "--all", "--freeze", "--quiet", "-h", server.base, "-p", server.port, "-U", "postgres")


from afterwards import test_server_logs_hold_nothing_harmful, test_tables_and_indexes_are_intact  # noqa: E402, F401 (the last)
