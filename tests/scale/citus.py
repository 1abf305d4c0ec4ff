"""What the script for Citus distributes, and what it refuses: tests of test_scale.py. Citus itself is not here: functions of its names note
what they are called with."""

import subprocess

import pytest

from common import ROOT

SCRIPT = ROOT / "packaging" / "citus.sql"
DATABASE = "citus"
STAND_IN = """
CREATE EXTENSION pg_idempotent;
CREATE TABLE payment (owner text, amount numeric);
CREATE TABLE numbered (owner bigint);
CREATE TABLE pg_dist_object (classid oid, objid oid, force_delegation boolean, colocationid integer);
CREATE VIEW citus_tables AS SELECT t AS table_name, 'distributed' AS citus_table_type, 'owner'::text AS distribution_column, 7 AS colocation_id FROM unnest('{payment,numbered}'::regclass[]) AS t;
CREATE TABLE worker (nodename text, nodeport integer, success boolean, result text);
INSERT INTO worker SELECT 'worker-' || n, 5432, true, extversion FROM generate_series(1, 2) AS n, pg_extension WHERE extname = 'pg_idempotent';
CREATE FUNCTION run_command_on_workers(command text) RETURNS SETOF worker LANGUAGE sql AS 'TABLE worker';
CREATE TABLE left_out (function regprocedure);
CREATE FUNCTION create_distributed_function(function regprocedure, argument text, colocate_with text, force_delegation boolean) RETURNS void LANGUAGE sql AS $$
  INSERT INTO pg_dist_object SELECT 'pg_proc'::regclass, function, force_delegation, 7 WHERE argument = 'scope' AND colocate_with = 'payment' AND function NOT IN (TABLE left_out) $$;
"""
# Where a call has an owner, it runs on the owner's node.
OWNED = """SELECT p.oid::regprocedure::text FROM pg_depend AS d JOIN pg_proc AS p ON p.oid = d.objid JOIN pg_extension AS e ON e.oid = d.refobjid
           WHERE d.classid = 'pg_proc'::regclass AND d.deptype = 'e' AND e.extname = 'pg_idempotent' AND p.pronamespace = e.extnamespace AND 'scope' = ANY (p.proargnames)
             AND p.proname NOT IN ('idempotent_slot', 'idempotent_shard', 'idempotent_derive_key')"""
DISTRIBUTED = "SELECT objid::regprocedure::text FROM pg_dist_object WHERE force_delegation"


@pytest.fixture
def coordinator(cluster):
    node = cluster.nodes[0]
    node.must(f"DROP DATABASE IF EXISTS {DATABASE}")
    node.must(f"CREATE DATABASE {DATABASE}")
    node.must(STAND_IN, DATABASE)
    yield node
    node.must(f"DROP DATABASE {DATABASE}")


def run_script(node, like="payment"):
    done = subprocess.run([str(node.prefix / "bin" / "psql"), "-X", "-v", f"like={like}", "-f", str(SCRIPT)], env=node.env(DATABASE),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    return done.returncode, done.stdout


def names(node, query):
    return sorted(node.must(query, DATABASE).splitlines())


def test_citus_every_function_with_an_owner_is_distributed(coordinator):
    code, out = run_script(coordinator)
    assert code == 0, out
    owned = names(coordinator, OWNED)
    assert names(coordinator, DISTRIBUTED) == owned
    assert {"idempotent_replay(text,text,text)"} < set(owned)


@pytest.mark.parametrize("change, like, told", [
    ("INSERT INTO left_out SELECT p.oid FROM pg_proc AS p WHERE p.proname = 'idempotent_replay'", "payment", "Not: idempotent_replay(text,text,text)."),
    ("UPDATE worker SET result = '0.9' WHERE nodename = 'worker-2'", "payment", "Others: worker-2:5432 (0.9)."),
    ("UPDATE worker SET result = NULL WHERE nodename = 'worker-1'", "payment", "Others: worker-1:5432 (none)."),
    ("", "numbered", 'table "numbered" is not distributed by a column of type text'),
    ("DROP VIEW citus_tables", "payment", "has not both of the extensions"),
])
def test_citus_half_a_cluster_is_refused(coordinator, change, like, told):
    coordinator.must(change, DATABASE)
    code, out = run_script(coordinator, like)
    assert code != 0 and told in out
    assert names(coordinator, DISTRIBUTED) == []
