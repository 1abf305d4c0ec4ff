"""What all benchmarks share: a database of their own, psql and pgbench, sides that take turns, medians and ratios.

Environment: PGHOST, PGPORT, PGUSER (a superuser) and PGBIN (the directory of psql and pgbench); the library must be preloaded. QUICK=1
takes fewer and shorter rounds.
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

CLIENTS = 4
# Short, and many of them: what else happens on a machine, in Postgres itself too, falls on all sides alike.
CLIENT_SECONDS = 1
# Fewer than the claims that one transaction holds by locks at max_locks_per_transaction = 64.
BATCH_SIZE = 50
# Finished keys that are there before anything is measured, and how many of them are replayed in the server.
FINISHED = 20_000
REPLAYED = 2_000


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


def prepare(database=DATABASE):
    drop(database)
    psql(f"CREATE DATABASE {database}", "postgres")
    for name in ("schema", "rival", "in_server"):
        psql((HERE / f"{name}.sql").read_text(), database)
    psql((HERE / "preload.sql").read_text(), database, batch_size=BATCH_SIZE, finished=FINISHED, replayed=REPLAYED)


def drop(database=DATABASE):
    psql(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)", "postgres")


def turns(round_number, sides):
    """Who goes first changes from round to round."""
    return sides if round_number % 2 else sides[::-1]


def pgbench(script, clients=CLIENTS, seconds=CLIENT_SECONDS, mode="prepared", database=DATABASE, **variables):
    """Transactions per second of a script."""
    defined = {"finished": FINISHED, "request": '{"customer": "Ada", "amount": 25.00}',
               "response": '{"payment": 1, "state": "paid"}', **variables}
    out = tool("pgbench", "-n", "-M", mode, "-c", clients, "-j", min(clients, os.cpu_count() or 1), "-T", seconds,
               *(part for name, value in defined.items() for part in ("-D", f"{name}={value}")), "-f", script, database)
    if "number of failed transactions: 0 " not in out:
        raise Failure(f"pgbench saw failed transactions:\n{out}")
    return float(out.split("tps = ")[1].split()[0])


def compare(ours, rivals, higher_is_better):
    """As what disturbs a round disturbs both sides of it, the ratio is the median of the rounds' ratios."""
    by_round = [a / b if higher_is_better else b / a for a, b in zip(ours, rivals)]
    return {"ours": statistics.median(ours), "rival": statistics.median(rivals), "ratio": statistics.median(by_round),
            "lowest": min(by_round), "highest": max(by_round), "samples": {"ours": ours, "rival": rivals}}


def machine():
    facts = dict(line.split("=", 1) for line in psql(
        "SELECT name || '=' || current_setting(name) FROM pg_settings WHERE name IN "
        "('server_version', 'shared_buffers', 'fsync', 'synchronous_commit', 'max_locks_per_transaction')").splitlines())
    facts["extension"] = psql("SELECT extversion FROM pg_extension WHERE extname = 'pg_idempotent'")
    facts["processors"] = os.cpu_count()
    facts["system"] = f"{platform.system()} {platform.machine()}"
    facts["date"] = time.strftime("%Y-%m-%d")
    facts["quick"] = QUICK
    return facts


def headline(facts):
    return (f"\n{facts['date']}: pg_idempotent {facts['extension']}, Postgres {facts['server_version']} (shared_buffers "
            f"{facts['shared_buffers']}, fsync {facts['fsync']}), {facts['processors']} processors, {facts['system']}.\n")


def table(title, rows):
    """Rows of (what, against, result of `compare`, target)."""
    lines = [f"{title}\n", "| what | against | pg_idempotent | rival | ratio | lowest to highest | target |", "|---|---|---:|---:|---:|---:|---:|"]
    lines += [f"| {what} | {against} | {figure(r['ours'])} | {figure(r['rival'])} | **{r['ratio']:.2f}** "
              f"| {r['lowest']:.2f} to {r['highest']:.2f} | {goal(r['ratio'], target)} |" for what, against, r, target in rows]
    return "\n".join(lines) + "\n"


def goal(reached, target):
    """A target, and whether it was missed: as the figure beside it is printed."""
    return "" if target is None else f"{target}" if round(reached, 2) >= target else f"{target} (missed)"


def figure(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def write(name, result):
    written = HERE / name
    written.write_text(json.dumps(result, indent=1) + "\n")
    return written.relative_to(HERE.parent)


def run(main):
    try:
        main()
    except (Failure, OSError) as failure:
        sys.stdout.flush()
        print(f"\nerror: {failure}", file=sys.stderr)
        sys.exit(1)
