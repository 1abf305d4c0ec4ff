"""Four nodes behind PL/Proxy, Debian's both: storms through nodes that crash, move slots and fail over; and what is refused there."""

import collections
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest

import logs
from citus import (  # noqa: F401 (tests of this file)
    coordinator,
    test_citus_every_function_with_an_owner_is_distributed,
    test_citus_half_a_cluster_is_refused,
)
from cluster import PLPROXY, SLOTS, Cluster
from common import output_of
from moves import ACCIDENTS, READY, Move, crash
from roots import Root
from storm import HANDLER, Storm, connected, judged, refusal
from surface import (  # noqa: F401 (tests of this file)
    test_every_function_is_proxied_or_refused,
    test_pages_name_what_is_refused,
    test_new_function_is_not_forgotten,
    test_installed_again_it_keeps_what_it_knows,
    test_callers_call_and_do_not_administer,
    test_slot_is_that_of_the_nodes,
    test_all_nodes_in_one_call,
    test_http_key_is_read_as_the_nodes_do,
)


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


def effects(cluster, key):
    return sum(int(node.must(f"SELECT count(*) FROM effect WHERE key = '{key}'")) for node in cluster.nodes)


def told(title, *figures):
    print(f"    {title}: {', '.join(figures)}")


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


def test_restored_node_answers_for_what_it_did(cluster):
    node = cluster.nodes[0]
    dump = output_of([node.prefix / "bin" / "pg_dump"], env=node.env())
    node.must("CREATE DATABASE restored")
    node.must(dump, "restored")
    slots = "SELECT slots, left_behind FROM idempotent.own"
    assert node.must(slots, "restored") == node.must(slots) != ""
    code, _, said = node.psql("SELECT idempotent_claim('work', 'k', scope => k) FROM generate_series(1, 9) AS n, format('t %s', n) AS k", "restored")
    assert code != 0 and "ID010" in said
    node.must("DROP DATABASE restored")


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
