"""How much a call costs, next to the same thing written by hand in PL/pgSQL, in one run on one server.

Both sides take turns, round after round; the tables show medians, never a figure alone, and the ratio is the median of
the rounds' ratios, as what disturbs a round disturbs both sides of it. The result is also written to bench/results.json.
Exits with 1 if a ratio that this project promises is not reached.

Environment: PGHOST, PGPORT, PGUSER (a superuser) and PGBIN (the directory of psql and pgbench). The work is done in a
database of its own. QUICK=1 takes fewer and shorter rounds.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
BIN = Path(os.environ.get("PGBIN", ""))
DATABASE = "idempotent_bench"
QUICK = os.environ.get("QUICK", "") not in ("", "0")

ROUNDS = 11 if QUICK else 25
BATCHES = 60 if QUICK else 100
# Fewer than the claims that one transaction holds by locks at max_locks_per_transaction = 64.
BATCH_SIZE = 50
# Finished keys that are there before anything is measured, and how many of them are replayed in the server.
FINISHED = 20_000
REPLAYED = 2_000
PASSES = 5 if QUICK else 10

CLIENT_ROUNDS = 3 if QUICK else 5
CLIENT_SECONDS = 2 if QUICK else 3
CLIENTS = 4

SIDES = ("ours", "rival")
# Name, what is measured, whether each sample needs new keys, and the ratio that must be reached.
IN_SERVER = [
    ("answer", "replay, where the guides' function inserts on conflict and selects", False, 2.0),
    ("retry", "claim of a finished key, likewise", False, 2.0),
    ("claim_complete", "claim + complete", True, 2.0),
    ("transaction", "claim + complete + COMMIT", True, None),
    ("run", "run, with a handler of one insert", True, None),
    ("replay", "replay, against a function of a single SELECT", False, None),
]
CLIENT = [
    ("replay", "replay", "`SELECT` by primary key"),
    ("run", "run, with a handler of one insert", "the PL/pgSQL function"),
    ("block", "BEGIN, claim, insert, complete, COMMIT", "BEGIN, insert on conflict, insert, update, COMMIT"),
]


class Failure(Exception):
    """Shown as a message."""


def tool(name, *arguments, stdin=None):
    done = subprocess.run([str(BIN / name), *map(str, arguments)], input=stdin, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True)
    if done.returncode != 0:
        raise Failure(f"{name} failed:\n{done.stderr.strip()}")
    return done.stdout


def psql(sql, database=DATABASE, **variables):
    settings = [part for name, value in variables.items() for part in ("-v", f"{name}={value}")]
    return tool("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, *settings, stdin=sql).strip()


def prepare():
    psql(f"DROP DATABASE IF EXISTS {DATABASE}", "postgres")
    psql(f"CREATE DATABASE {DATABASE}", "postgres")
    for name in ("schema", "rival", "in_server"):
        psql((HERE / f"{name}.sql").read_text())
    psql((HERE / "preload.sql").read_text(), batch_size=BATCH_SIZE, finished=FINISHED, replayed=REPLAYED)


def turns(round_number):
    """Who goes first changes from round to round."""
    return SIDES if round_number % 2 else SIDES[::-1]


def in_server():
    """Samples {(measure, side): [microseconds per call]}, all taken in one backend, and the clock they were taken by."""
    script = []
    for round_number in range(ROUNDS + 1):
        for name, _, fresh, _ in IN_SERVER:
            if fresh:
                script += ["TRUNCATE bench.key;",
                           f"INSERT INTO bench.key SELECT * FROM bench.new_keys({BATCHES}, {BATCH_SIZE});",
                           "ANALYZE bench.key;"]
            for side in turns(round_number):
                script += ["SELECT wall, cpu FROM bench.clock() \\gset before_",
                           f"CALL bench.{name}_{side}({BATCHES if fresh else PASSES});",
                           f"SELECT {round_number}, '{name}', '{side}', wall - :before_wall, cpu - :before_cpu FROM bench.clock();"]
    calls = {name: BATCHES * BATCH_SIZE if fresh else PASSES * REPLAYED for name, _, fresh, _ in IN_SERVER}
    samples, clocks = {}, set()
    for line in psql("\n".join(script)).splitlines():
        round_number, name, side, wall, cpu = line.split("|")
        clocks.add("processor time" if cpu else "wall time")
        # Round 0 fills the caches.
        if int(round_number) > 0:
            samples.setdefault((name, side), []).append(float(cpu or wall) / calls[name])
    return samples, " and ".join(sorted(clocks))


def client():
    """Samples {(measure, side): [transactions per second]}."""
    samples = {}
    for round_number in range(CLIENT_ROUNDS):
        for name, _, _ in CLIENT:
            for side in turns(round_number):
                samples.setdefault((name, side), []).append(pgbench(HERE / "client" / f"{name}_{side}.sql"))
    return samples


def pgbench(script):
    out = tool("pgbench", "-n", "-M", "prepared", "-c", CLIENTS, "-j", min(CLIENTS, os.cpu_count() or 1), "-T", CLIENT_SECONDS,
               "-D", f"finished={FINISHED}", "-D", 'request={"customer": "Ada", "amount": 25.00}',
               "-D", 'response={"payment": 1, "state": "paid"}', "-f", script, DATABASE)
    if "number of failed transactions: 0 " not in out:
        raise Failure(f"pgbench saw failed transactions:\n{out}")
    return float(out.split("tps = ")[1].split()[0])


def compare(samples, name, higher_is_better):
    ours, rival = (samples[name, side] for side in SIDES)
    better = (lambda a, b: a / b) if higher_is_better else (lambda a, b: b / a)
    by_round = [better(a, b) for a, b in zip(ours, rival)]
    return {"ours": statistics.median(ours), "rival": statistics.median(rival), "ratio": statistics.median(by_round),
            "lowest": min(by_round), "highest": max(by_round), "samples": {"ours": ours, "rival": rival}}


def machine():
    facts = dict(line.split("=", 1) for line in psql(
        "SELECT name || '=' || current_setting(name) FROM pg_settings WHERE name IN "
        "('server_version', 'shared_buffers', 'fsync', 'synchronous_commit', 'max_locks_per_transaction')").splitlines())
    facts["extension"] = psql("SELECT extversion FROM pg_extension WHERE extname = 'pg_idempotent'")
    facts["processors"] = os.cpu_count()
    facts["system"] = f"{platform.system()} {platform.machine()}"
    facts["date"] = time.strftime("%Y-%m-%d")
    return facts


def in_server_table(results, clock):
    print(f"In the server, {clock} per call in microseconds; medians of {ROUNDS} rounds:\n")
    print("| what | pg_idempotent | PL/pgSQL | times cheaper | lowest to highest | promised |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, title, _, bar in IN_SERVER:
        r = results[name]
        print(f"| {title} | {r['ours']:.1f} | {r['rival']:.1f} | **{r['ratio']:.2f}** | {r['lowest']:.2f} to {r['highest']:.2f} "
              f"| {bar or ''} |")


def client_table(results):
    print(f"\nFrom {CLIENTS} clients, prepared statements, transactions per second; medians of {CLIENT_ROUNDS} rounds of "
          f"{CLIENT_SECONDS} s:\n")
    print("| what | pg_idempotent | by hand | times faster | lowest to highest | by hand means |")
    print("|---|---:|---:|---:|---:|---|")
    for name, title, rival in CLIENT:
        r = results[name]
        print(f"| {title} | {r['ours']:,.0f} | {r['rival']:,.0f} | **{r['ratio']:.2f}** | {r['lowest']:.2f} to {r['highest']:.2f} "
              f"| {rival} |")


def main():
    began = time.monotonic()
    prepare()
    try:
        facts = machine()
        print(f"\n{facts['date']}: pg_idempotent {facts['extension']}, Postgres {facts['server_version']} "
              f"(shared_buffers {facts['shared_buffers']}, fsync {facts['fsync']}), {facts['processors']} processors, "
              f"{facts['system']}. Records in UNLOGGED tables on both sides.\n", flush=True)
        samples, clock = in_server()
        inside = {name: compare(samples, name, False) for name, *_ in IN_SERVER}
        psql((HERE / "check.sql").read_text())
        in_server_table(inside, clock)
        sys.stdout.flush()
        samples = client()
        outside = {name: compare(samples, name, True) for name, *_ in CLIENT}
        client_table(outside)
    finally:
        psql(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)", "postgres")
    written = HERE / "results.json"
    written.write_text(json.dumps({"machine": facts, "clock": clock, "in_server": inside, "client": outside}, indent=1) + "\n")
    print(f"\nTook {time.monotonic() - began:.0f} s. All samples are in {written.relative_to(HERE.parent)}.")
    missed = [f"{title}: {inside[name]['ratio']:.2f} instead of {bar}" for name, title, _, bar in IN_SERVER
              if bar and inside[name]["ratio"] < bar]
    if missed:
        raise Failure("less than promised: " + "; ".join(missed))


if __name__ == "__main__":
    try:
        main()
    except (Failure, OSError) as failure:
        sys.stdout.flush()
        print(f"\nerror: {failure}", file=sys.stderr)
        sys.exit(1)
