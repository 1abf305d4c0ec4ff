"""`make bench-tables`: which settings of the tables of records are best, in counts, which are the same on a busy machine.

A day of a busy table in little: round after round keys are stored, one in four of them under a lease that is extended twice, and as many are swept,
so that the table neither grows nor shrinks. VACUUM runs when autovacuum would, by its own formula. Counted are the pages that the table and its indexes come
to, which is what VACUUM did not give back in time; the pages that the vacuums touched, all of them together; and the updates that were HOT.
"""

import re
import subprocess

from build import install
from common import MAIN_MAJOR, run_main, say
from server import PRELOADED, Server

ROUNDS, LIVE = 40, 10  # of the rounds that many are kept
PLAIN, LEASED = 1_500, 500
# What the extension ships is what Postgres does by itself; the others differ in one thing each.
VARIANTS = {
    "as shipped": {},
    "`fillfactor = 80`": {"fillfactor": 80},
    "`autovacuum_vacuum_scale_factor = 0.05`": {"scale": 0.05},
    "`autovacuum_vacuum_scale_factor = 0.5`": {"scale": 0.5},
    "`deduplicate_items = off`": {"deduplicate": "off"},
    "`vacuum_truncate = off`": {"truncate": "off"},
}
THRESHOLD, SCALE = 50, 0.2  # autovacuum's
SETTINGS = {**PRELOADED, "autovacuum": "off", "idempotent.sweeper_enabled": "off", "synchronous_commit": "off"}
ROUND = """
SELECT count(*) FROM (SELECT (idempotent_claim('op', 'k{round}-' || n, '{{"amount": 5}}')).outcome, idempotent_complete('op', 'k{round}-' || n, '{{"paid": true}}')
                        FROM generate_series(1, {plain}) AS n) AS done;
DO $$ DECLARE granted bigint; BEGIN
    FOR n IN 1 .. {leased} LOOP
        SELECT c.fence INTO granted FROM idempotent_claim('op', 'k{round}-leased ' || n, lease => '1 hour') AS c;
        COMMIT;
        PERFORM idempotent_extend('op', 'k{round}-leased ' || n, '2 hours', fence => granted);
        COMMIT;
        PERFORM idempotent_extend('op', 'k{round}-leased ' || n, '3 hours', fence => granted);
        COMMIT;
        PERFORM idempotent_complete('op', 'k{round}-leased ' || n, '{{"paid": true}}', fence => granted);
        COMMIT;
    END LOOP;
END $$;
-- what the sweeper does to the pages, without waiting for the time
SET session_replication_role = replica;
DELETE FROM idempotent.record_logged WHERE key LIKE 'k{swept}-%';
SELECT pg_stat_force_next_flush();
"""
STATE = """
SELECT s.n_dead_tup, greatest(c.reltuples, 0), (pg_table_size(c.oid) + pg_indexes_size(c.oid)) / 8192, s.n_tup_upd, s.n_tup_hot_upd
  FROM pg_class AS c JOIN pg_stat_user_tables AS s ON s.relid = c.oid WHERE c.oid = 'idempotent.record_logged'::regclass
"""
TOUCHED = re.compile(r"buffer usage: (\d+) hits, (\d+) \w+, (\d+) dirtied")


def vacuum(server, database, truncate):
    """How many pages it touched."""
    command = [str(server.prefix / "bin" / "psql"), "-X", "-c", f"VACUUM (VERBOSE, TRUNCATE {truncate}) idempotent.record_logged"]
    said = subprocess.run(command, env=server.env(database), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, check=True).stdout
    return sum(int(hits) + int(reads) for hits, reads, _ in TOUCHED.findall(said))


def measure(server, number, fillfactor=100, scale=SCALE, deduplicate="on", truncate="on"):
    """(pages at most, once all is as it stays; vacuums; pages they touched; the share of updates that were HOT)."""
    database = f"tables_{number}"
    server.must(f"CREATE DATABASE {database}")
    server.must(f"""CREATE EXTENSION pg_idempotent; SELECT FROM idempotent_operation('op', durability => 'logged');
        ALTER TABLE idempotent.record_logged SET (fillfactor = {fillfactor});
        ALTER INDEX idempotent.record_logged_pkey SET (deduplicate_items = {deduplicate});
        ALTER INDEX idempotent.record_logged_sweep_at_idx SET (deduplicate_items = {deduplicate})""", database)
    most = vacuums = touched = 0
    for turn in range(ROUNDS):
        server.must(ROUND.format(round=turn, swept=turn - LIVE, plain=PLAIN, leased=LEASED), database)
        dead, rows, pages, updates, hot = (float(word) for word in server.must(STATE, database).split("|"))
        most = max(most, pages) if turn >= ROUNDS / 2 else 0
        if dead > THRESHOLD + scale * rows:
            vacuums, touched = vacuums + 1, touched + vacuum(server, database, truncate)
    return most, vacuums, touched, hot / updates


def tables():
    say("| settings | pages of table and indexes, at most | vacuums | pages they touched | updates that were HOT |\n|---|---:|---:|---:|---:|")
    with Server(install(MAIN_MAJOR), SETTINGS) as server:
        for number, (name, settings) in enumerate(VARIANTS.items()):
            most, vacuums, touched, hot = measure(server, number, **settings)
            say(f"| {name} | {most:,.0f} | {vacuums} | {touched:,} | {hot:.0%} |")


if __name__ == "__main__":
    run_main(tables)
