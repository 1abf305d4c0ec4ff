"""Four nodes behind PL/Proxy, Debian's both: storms through nodes that crash, move slots and fail over; and what is refused there."""

import collections
import re
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest

import logs
from cluster import NAME, PLPROXY, Cluster, proxy_script
from common import ROOT, Failure
from moves import ACCIDENTS, READY, Move, crash
from roots import Root
from storm import HANDLER, Storm, connected, judged

SLOTS = 16384


@pytest.fixture(scope="module")
def cluster(request, major):
    with Root(major, also=(PLPROXY,)) as root:
        root.lay_extension()
        with Cluster(root, logs=logs.directory()) as cluster:
            for node in cluster.nodes:
                node.must(f"{HANDLER} {READY}")
            for operation, durability in (("work", "logged"), ("quick", "unlogged")):
                cluster.proxy.must(f"SELECT FROM idempotent_operation('{operation}', durability => '{durability}')")
            request.config.servers.append(cluster)
            yield cluster
            request.config.servers.remove(cluster)


@pytest.fixture
def proxy(cluster):
    with connected(cluster.proxy) as connection:
        yield connection


def key_of(proxy, number, name="key"):
    """A key that a node answers for."""
    return proxy.execute("SELECT k FROM (SELECT format('%%s %%s', %s::text, n) FROM generate_series(1, 1000) AS n) AS g (k)"
                         " WHERE idempotent.node_of(k, '') = %s LIMIT 1", (name, number)).fetchone()[0]


def refusal(connection, statement, *values):
    with pytest.raises(psycopg.Error) as raised:
        connection.execute(statement, values)
    return raised.value


def effects(cluster, key):
    return sum(int(node.must(f"SELECT count(*) FROM effect WHERE key = '{key}'")) for node in cluster.nodes)


def told(title, *figures):
    print(f"    {title}: {', '.join(figures)}")


# What a proxy has, against what a node has.

LISTED = re.compile(r"^    \('(idempotent_\w+)', +'(\w+)', (?:'(.*)'|NULL)\)[,;]$", re.M)
PUBLIC = """SELECT p.proname, pg_get_function_identity_arguments(p.oid) FROM pg_depend AS d JOIN pg_proc AS p ON p.oid = d.objid JOIN pg_extension AS e ON e.oid = d.refobjid
            WHERE d.classid = 'pg_proc'::regclass AND d.deptype = 'e' AND e.extname = 'pg_idempotent' AND p.pronamespace = e.extnamespace"""
AT_PROXY = """SELECT p.proname, l.lanname, p.prosrc, coalesce(p.proargnames[:p.pronargs], '{}'), p.proargtypes::regtype[]::text[], p.pronargdefaults FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
              WHERE p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'idempotent%'"""
RUNS = {"owner": "RUN ON idempotent.node_of(", "split": "SPLIT ", "all": "RUN ON ALL;", "any": "RUN ON ANY;", "no": "cannot be called through a proxy", "here": "sha256("}


def listed():
    """{function: (way, note)} of the script."""
    return {name: (way, note) for name, way, note in LISTED.findall((ROOT / "packaging" / "plproxy.sql").read_text())}


def test_every_function_is_proxied_or_refused(cluster, proxy):
    with connected(cluster.nodes[0]) as node:
        public = {name for name, _ in node.execute(PUBLIC)}
        # Arguments with names and defaults are part of the contract.
        arguments = "SELECT p.proname, coalesce(p.proargnames[:p.pronargs], '{}'), replace(p.proargtypes::regtype[]::text, 'regrole', 'text')::text[], p.pronargdefaults FROM pg_proc AS p"
        same = {row[0]: row[1:] for row in node.execute(f"{arguments} WHERE p.proname LIKE 'idempotent%' AND p.pronamespace = 'public'::regnamespace")}
    ways = listed()
    assert set(ways) == public
    found = {row[0]: row[1:] for row in proxy.execute(AT_PROXY)}
    assert set(found) == public
    for name, (language, body, *rest) in found.items():
        assert RUNS[ways[name][0]] in body, (name, body)
        assert tuple(rest) == same[name], name


def test_pages_name_what_is_refused():
    page = (ROOT / "docs" / "scale.md").read_text()
    table = page.partition("\n| refused |")[2].partition("\n\n")[0]
    named = [name for line in table.splitlines() if line.startswith("| ") for name in re.findall(r"`(\w+)`", line.split("|")[1])]
    assert sorted(named) == sorted(name for name, (way, _) in listed().items() if way == "no")


def test_new_function_is_not_forgotten(cluster):
    node = cluster.nodes[0]
    node.must("CREATE FUNCTION idempotent_new_thing() RETURNS void LANGUAGE sql AS ''; ALTER EXTENSION pg_idempotent ADD FUNCTION idempotent_new_thing()")
    try:
        with pytest.raises(Failure, match="It has no line for: idempotent_new_thing"):
            proxy_script(node)
    finally:
        node.must("ALTER EXTENSION pg_idempotent DROP FUNCTION idempotent_new_thing(); DROP FUNCTION idempotent_new_thing()")


def test_installed_again_it_keeps_what_it_knows(cluster, proxy):
    before = proxy.execute("SELECT * FROM idempotent.route ORDER BY slots").fetchall()
    cluster.proxy.must(proxy_script(cluster.nodes[0]))
    assert proxy.execute("SELECT * FROM idempotent.route ORDER BY slots").fetchall() == before and len(before) == 4


def test_callers_call_and_do_not_administer(cluster, proxy):
    proxy.execute("CREATE ROLE clerk LOGIN")
    cluster.proxy.must(proxy_script(cluster.nodes[0], "-v", "callers=clerk"))
    proxy.execute("SET ROLE clerk")
    assert proxy.execute("SELECT outcome FROM idempotent_replay('work', 'clerk')").fetchone() == ("absent",)
    for call in ("idempotent_forget('work', 'clerk')", "idempotent_sweep()", "idempotent.read_routes()", "idempotent.slots_of_node(0)"):
        assert refusal(proxy, f"SELECT {call}").sqlstate == "42501", call


def test_slot_is_that_of_the_nodes(cluster, proxy):
    ask = "SELECT key, scope, idempotent_slot(key, scope) FROM (SELECT 'k-é-' || n, CASE WHEN n % 3 = 0 THEN 'tenant ' || n ELSE '' END FROM generate_series(1, 300) AS n) AS g (key, scope)"
    with connected(cluster.nodes[0]) as node:
        assert proxy.execute(ask).fetchall() == node.execute(ask).fetchall()


def test_all_nodes_in_one_call(cluster, proxy):
    own = [row[0] for row in proxy.execute("SELECT own::text FROM idempotent.health")]
    assert sorted(own) == sorted(f"{{[{n * 4096},{n * 4096 + 4096})}}" for n in range(4))
    assert proxy.execute("SELECT count(DISTINCT node), count(*) FROM idempotent_operation('everywhere', retention => '1 hour') WHERE retention = '1 hour'").fetchone() == (4, 4)
    assert proxy.execute("SELECT count(*) FROM idempotent.operation WHERE name = 'everywhere'").fetchone() == (4,)
    assert proxy.execute("SELECT count(DISTINCT node) FROM idempotent.settings WHERE name = 'idempotent.clock_skew'").fetchone() == (4,)
    assert proxy.execute("SELECT count(*) FROM idempotent_doctor() WHERE severity = 'error'").fetchone() == (0,)
    assert proxy.execute("SELECT count(*) FROM idempotent_sweep()").fetchone() == (4,)
    for view, in proxy.execute("SELECT table_name FROM information_schema.views WHERE table_schema = 'idempotent'").fetchall():
        proxy.execute(f"SELECT node, count(*) FROM idempotent.{view} GROUP BY 1")


def test_http_key_is_read_as_the_nodes_do(cluster, proxy):
    """A key is routed the same however its header spells it."""
    claim = "SELECT run, key, fence, status FROM idempotent_http_claim('work', %s, 'POST', '/', body => 'x', lease => '1 minute')"
    for number in range(20):
        key = f'a "quoted" \\ key {number}'
        spelled = '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
        run, read, fence, _ = proxy.execute(claim, (f"\t{spelled} ",)).fetchone()
        assert (run, read) == (True, key)
        assert proxy.execute("SELECT idempotent_http_complete('work', %s, 201, fence => %s)", (key, fence)).fetchone() == (True,)
        assert proxy.execute(claim, (key,)).fetchone()[::3] == (False, 201)
    assert proxy.execute(claim, (None,)).fetchone()[3] == proxy.execute(claim, ('"open',)).fetchone()[3] == 400


# Whole calls only.

def test_leases(cluster, proxy):
    first, second = key_of(proxy, 1, "lease"), key_of(proxy, 2, "lease")
    fences = [proxy.execute("SELECT fence FROM idempotent_claim('work', %s, lease => '1 minute')", (key,)).fetchone()[0] for key in (first, second)]
    assert proxy.execute("SELECT idempotent_extend_all('work', %s, %s, '1 minute')", ([first, second, "lost"], [*fences, 1])).fetchall() == [("lost",)]
    for key, fence in zip((first, second), fences):
        assert proxy.execute("SELECT idempotent_complete('work', %s, '1', fence => %s)", (key, fence)).fetchone() == (1,)


def test_claim_in_a_transaction_is_refused(cluster, proxy):
    key = key_of(proxy, 0, "open")
    assert refusal(proxy, "SELECT outcome FROM idempotent_claim('work', %s)", key).sqlstate == "ID009"
    assert refusal(proxy, "SELECT idempotent_complete('work', %s, '1')", key).sqlstate == "ID007"
    with connected(cluster.proxy) as other:
        assert other.execute("SELECT outcome FROM idempotent_run('work', %s, jsonb_build_object('key', %s::text), 'work')", (key, key)).fetchone() == ("executed",)


def test_rollback_at_the_proxy_undoes_nothing(cluster, proxy):
    key = key_of(proxy, 0, "rolled back")
    run = "SELECT outcome FROM idempotent_run('work', %s, jsonb_build_object('key', %s::text), 'work')"
    with proxy.transaction(force_rollback=True):
        assert proxy.execute(run, (key, key)).fetchone() == ("executed",)
    assert proxy.execute(run, (key, key)).fetchone() == ("replay",) and effects(cluster, key) == 1


# What broke before a node knew its slots.

def test_misrouted_call_is_refused(cluster, proxy):
    """The proxy sends slots to a node that does not answer for them: routes that are late, or a route without a move."""
    key = key_of(proxy, 0, "misrouted")
    proxy.execute("DELETE FROM idempotent.route WHERE node = 0")
    refused = refusal(proxy, "SELECT idempotent_run('work', %s, '{}', 'work')", key)
    assert refused.sqlstate == "ID010" and "no node answers" in str(refused)
    proxy.execute("INSERT INTO idempotent.route VALUES ('[0,4096)', 3)")
    refused = refusal(proxy, "SELECT idempotent_run('work', %s, jsonb_build_object('key', %s::text), 'work')", key, key)
    assert refused.sqlstate == "ID010" and refused.diag.message_detail and refused.diag.message_hint
    proxy.execute("SELECT FROM idempotent.read_routes()")
    assert effects(cluster, key) == 0
    assert proxy.execute("SELECT outcome FROM idempotent_replay('work', %s)", (key,)).fetchone() == ("absent",)


def test_two_nodes_for_a_slot_are_told(cluster, proxy):
    before = proxy.execute("SELECT * FROM idempotent.route ORDER BY slots").fetchall()
    cluster.nodes[1].must("SELECT idempotent_own(NULL)")
    try:
        refused = refusal(proxy, "SELECT FROM idempotent.read_routes()")
        assert refused.sqlstate == "55000" and "Node 1" in refused.diag.message_detail
    finally:
        cluster.nodes[1].must("SELECT idempotent_own('{[4096,8192)}')")
    assert proxy.execute("SELECT * FROM idempotent.route ORDER BY slots").fetchall() == before


def test_slots_wait_for_an_open_claim(cluster, proxy):
    """Routing is switched while a claim is open: the slots stay until it has ended, and the next node refuses the key meanwhile."""
    old, new = cluster.nodes[0], cluster.nodes[1]
    key = key_of(proxy, 0, "in flight")
    slot = proxy.execute("SELECT idempotent_slot(%s)", (key,)).fetchone()[0]
    slots = f"{{[{slot},{slot + 1})}}"
    with connected(old) as holder, connected(old) as mover, connected(new) as other:
        holder.execute("BEGIN")
        holder.execute("SELECT outcome FROM idempotent_claim('work', %s)", (key,))
        mover.execute("SET lock_timeout = '200ms'")
        refused = refusal(mover, f"SELECT idempotent_own(own - '{slots}') FROM idempotent.health")
        assert refused.sqlstate == "55P03" and str(holder.info.backend_pid) in refused.diag.message_detail
        assert refusal(other, "SELECT idempotent_claim('work', %s)", key).sqlstate == "ID010"
        holder.execute("SELECT work(jsonb_build_object('key', %s::text)), idempotent_complete('work', %s, '\"here\"')", (key, key))
        holder.execute("COMMIT")
    move = Move(old, new, slots)
    move.run()
    proxy.execute("SELECT FROM idempotent.read_routes()")
    assert proxy.execute("SELECT outcome, response FROM idempotent_run('work', %s, NULL, 'work')", (key,)).fetchone() == ("replay", "here")
    assert effects(cluster, key) == 1
    Move(new, old, slots).run()
    proxy.execute("SELECT FROM idempotent.read_routes()")


def test_crash_while_slots_are_waited_for(cluster, proxy):
    """Of a change that has not committed nothing is left: the node answers for what it did."""
    node, key, another = cluster.nodes[2], key_of(proxy, 2, "held"), key_of(proxy, 2, "another")
    run = "SELECT outcome FROM idempotent_run('work', %s, jsonb_build_object('key', %s::text), 'work')"
    with closing(connected(node)) as holder, closing(connected(node)) as mover, ThreadPoolExecutor(1) as aside:
        holder.execute("BEGIN")
        holder.execute("SELECT outcome FROM idempotent_claim('work', %s)", (key,))
        change = aside.submit(refusal, mover, "SELECT idempotent_own('{}')")
        with connected(node) as third:
            while not third.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE pid = %s AND NOT granted)", (mover.info.backend_pid,)).fetchone()[0]:
                assert not change.done(), change.result()
            assert refusal(third, run, another, another).sqlstate == "ID010"
        crash(node)
        assert isinstance(change.result(), psycopg.OperationalError)
    assert node.must("SELECT own FROM idempotent.health") == "{[8192,12288)}\n"
    with connected(cluster.proxy) as proxy:
        assert [proxy.execute(run, (name, name)).fetchone()[0] for name in (key, another, key)] == ["executed", "executed", "replay"]


def test_moved_lease_is_fenced(cluster, proxy):
    """A lease that lapsed is taken over on the new node with a fence above, and its first holder is late there."""
    old, new = cluster.nodes[3], cluster.nodes[2]
    key = key_of(proxy, 3, "lapses")
    slot = proxy.execute("SELECT idempotent_slot(%s)", (key,)).fetchone()[0]
    claim = "SELECT outcome, attempt, fence FROM idempotent_claim('work', %s, lease => %s)"
    new.must("SELECT setval('idempotent.fence', 1, false)")
    outcome, _, before = proxy.execute(claim, (key, "300 milliseconds")).fetchone()
    assert outcome == "claimed"
    # It waits for the lease.
    there, back = Move(old, new, f"{{[{slot},{slot + 1})}}"), Move(new, old, f"{{[{slot},{slot + 1})}}")
    there.run()
    proxy.execute("SELECT FROM idempotent.read_routes()")
    outcome, attempt, after = proxy.execute(claim, (key, "1 minute")).fetchone()
    assert (outcome, attempt) == ("claimed", 2) and after > before
    complete = "SELECT idempotent_complete('work', %s, '1', fence => %s)"
    assert refusal(proxy, complete, key, before).sqlstate == "ID003"
    assert proxy.execute(complete, (key, after)).fetchone() == (1,)
    back.run()
    proxy.execute("SELECT FROM idempotent.read_routes()")
    assert proxy.execute("SELECT outcome FROM idempotent_replay('work', %s)", (key,)).fetchone() == ("replay",)


def test_operations_of_an_owner_are_together(cluster, proxy):
    run = "SELECT outcome FROM idempotent_run(%s, %s, jsonb_build_object('key', %s::text), 'work', scope => %s)"
    for number in range(20):
        for operation in ("charge", "refund"):
            proxy.execute(run, (operation, f"{operation} {number}", f"of-{number}", f"tenant {number}"))
    assert sorted(found for node in cluster.nodes for found in node.must("SELECT count(*) FROM effect WHERE key LIKE 'of-%' GROUP BY key").split()) == ["2"] * 20


def test_publication_of_slots(cluster):
    cluster.nodes[0].must("CREATE PUBLICATION moving FOR TABLE idempotent.record_logged WHERE (slot >= 0 AND slot < 100); DROP PUBLICATION moving")


def test_unlogged_keys_that_date_themselves_do_not_run_again(cluster, proxy):
    key = proxy.execute("SELECT idempotent_new_key()").fetchone()[0]
    run = "SELECT outcome FROM idempotent_run('quick', %s, jsonb_build_object('key', %s::text), 'work')"
    assert proxy.execute(run, (key, key)).fetchone() == ("executed",)
    crash(cluster.nodes[proxy.execute("SELECT idempotent.node_of(%s, '')", (key,)).fetchone()[0]])
    with connected(cluster.proxy) as proxy:
        assert proxy.execute(run, (key, key)).fetchone() == ("unknown",) and effects(cluster, key) == 1


def test_crash_before_the_export(cluster, proxy):
    """A node has lost unlogged records, and no session has written since: what it exports says so all the same."""
    old, new = cluster.nodes[0], cluster.nodes[1]
    old.must("ALTER SYSTEM SET idempotent.sweeper_enabled = off")
    old.must("SELECT pg_reload_conf()")
    # A UUIDv7, as the owner is the scope.
    scope, key = key_of(proxy, 0, "tenant"), proxy.execute("SELECT idempotent_new_key()").fetchone()[0]
    slot = proxy.execute("SELECT idempotent_slot('', %s)", (scope,)).fetchone()[0]
    run = "SELECT outcome FROM idempotent_run('quick', %s, jsonb_build_object('key', %s::text), 'work', scope => %s)"
    assert proxy.execute(run, (key, key, scope)).fetchone() == ("executed",)
    there, back = Move(old, new, f"{{[{slot},{slot + 1})}}"), Move(new, old, f"{{[{slot},{slot + 1})}}")
    with connected(old) as source, connected(new) as target:
        there.give_up(source, target)
    crash(old)
    with connected(old) as source, connected(new) as target:
        for step in (there.copy, there.first_half, there.rest, there.take):
            step(source, target)
    with connected(cluster.proxy) as proxy:
        proxy.execute("SELECT FROM idempotent.read_routes()")
        assert proxy.execute(run, (key, key, scope)).fetchone() == ("unknown",)
        back.run()
        old.must("ALTER SYSTEM RESET idempotent.sweeper_enabled")
        old.must("SELECT pg_reload_conf()")
        proxy.execute("SELECT FROM idempotent.read_routes()")


# Storms.

def test_storm(cluster):
    with Storm(cluster.proxy, "calm") as storm:
        pass
    counts = judged(storm, cluster.nodes)
    told("storm", f"{storm.keys} keys of {storm.done} calls, effects on the nodes: {counts}")
    assert all(counts) and not storm.errors


def test_storm_outlives_crashes(cluster):
    with Storm(cluster.proxy, "crashes") as storm:
        for node in cluster.nodes[:2]:
            storm.goes_on()
            node.shut_down("immediate")
            storm.is_refused()
            node.launch()
    counts = judged(storm, cluster.nodes)
    told("crashes", f"{storm.keys} keys, effects on the nodes: {counts}; called again after {dict(storm.errors)}")


def test_growth_under_a_storm(cluster):
    """From four nodes to five: each gives a fifth of its slots up to the new one, and a node is killed in the middle of each move."""
    with Storm(cluster.proxy, "growth", least=1000) as storm:
        storm.goes_on()
        new = cluster.add()
        new.must(f"{HANDLER} {READY} SELECT idempotent_operation('work', durability => 'logged'); SELECT idempotent_operation('quick')")
        cluster.place(4, new)
        moved, answers, took = [], collections.Counter(), []
        for number, accident in enumerate([*ACCIDENTS]):
            end = (number + 1) * SLOTS // 4
            slots = f"{{[{end - SLOTS // 20},{end})}}"
            storm.goes_on()
            move = Move(cluster.nodes[number], new, slots, accident)
            began = time.monotonic()
            move.run()
            cluster.proxy.must("SELECT FROM idempotent.read_routes()")
            took.append(time.monotonic() - began)
            answers.update(move.answers)
            moved.append(slots)
    counts = judged(storm, cluster.nodes)
    assert counts[4] > 0 and answers["new"] > 0 and answers["same"] > 0 and not answers["conflict"], answers
    assert storm.errors["ID010"] > 0
    with connected(cluster.proxy) as proxy:
        away = {row[0] for row in proxy.execute("SELECT k FROM unnest(%s::text[]) AS k WHERE idempotent_slot(k) <@ ANY (%s::int4multirange[])", (list(storm.waited), moved))}
    told("growth with a crash in each move", f"{storm.keys} keys, effects on the nodes: {counts}; imported: {dict(answers)}",
         f"a move took {1000 * statistics.median(took):.0f} ms, the longest call to a key that moved {1000 * max(storm.waited[key] for key in away):.0f} ms",
         f"to one that stayed {1000 * max(waited for key, waited in storm.waited.items() if key not in away):.0f} ms")


def test_move_under_a_storm(cluster):
    """Without an accident: how long the keys that move are away."""
    with Storm(cluster.proxy, "move") as storm:
        storm.goes_on()
        old, new = cluster.nodes[0], cluster.nodes[4]
        slots = "{[1000,1819)}"
        began = time.monotonic()
        Move(old, new, slots).run()
        cluster.proxy.must("SELECT FROM idempotent.read_routes()")
        took = time.monotonic() - began
        storm.goes_on()
    judged(storm, cluster.nodes)
    with connected(cluster.proxy) as proxy:
        away = {row[0] for row in proxy.execute("SELECT k FROM unnest(%s::text[]) AS k WHERE idempotent_slot(k) <@ %s::int4multirange", (list(storm.waited), slots))}
    told("move of 819 slots", f"took {1000 * took:.0f} ms; the longest call to a key that moved {1000 * max(storm.waited[key] for key in away):.0f} ms,"
         f" to one that stayed {1000 * max(waited for key, waited in storm.waited.items() if key not in away):.0f} ms")


def test_failover_under_a_storm(cluster, proxy):
    """A node is lost for good, and its synchronous standby takes its place: what was answered is answered the same."""
    node = cluster.nodes[1]
    standby = cluster.standby_of(1)
    while node.must("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") != "1\n":
        pass
    held = key_of(proxy, 1, "over the failover")
    fence = proxy.execute("SELECT fence FROM idempotent_claim('work', %s, lease => '10 minutes')", (held,)).fetchone()[0]
    with Storm(cluster.proxy, "failover") as storm:
        storm.goes_on()
        node.shut_down("immediate")
        storm.is_refused()
        standby.must("SELECT pg_promote()")
        cluster.others.append(node)
        cluster.others.remove(standby)
        cluster.nodes[1] = standby
    counts = judged(storm, cluster.nodes)
    told("failover", f"{storm.keys} keys, effects on the nodes: {counts}; called again after {dict(storm.errors)},"
         f" the longest call {1000 * max(storm.waited.values()):.0f} ms")
    with connected(cluster.proxy) as proxy:
        assert proxy.execute("SELECT idempotent_complete('work', %s, '1', fence => %s)", (held, fence)).fetchone() == (1,)
        another = key_of(proxy, 1, "after the failover")
        assert proxy.execute("SELECT fence FROM idempotent_claim('work', %s, lease => '1 second')", (another,)).fetchone()[0] > fence


def test_tables_and_indexes_are_intact(cluster):
    for node in cluster.nodes:
        flaws = node.flaws()
        assert not flaws, f"pg_amcheck says:\n{flaws}"


from afterwards import test_server_logs_hold_nothing_harmful  # noqa: E402, F401 (the last)
