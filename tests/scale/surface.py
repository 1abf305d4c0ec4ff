"""What the script writes for a proxy, against what a node has: tests of test_scale.py."""

import re

import pytest

from cluster import proxy_script
from common import ROOT, Failure
from storm import connected, refusal

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
