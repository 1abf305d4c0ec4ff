"""What the background sweeper costs those who work: the processor time of a claim with a backlog being swept and without, in turns.

One server, one run: a table with expired and live records; round after round the sweeper is switched off and on while
four sessions claim and complete. It ends when the backlog is gone. Commits are asynchronous, so that the processor is
what everybody fights for, and not the disk. The figures: the median of the rounds' ratios, and how long the sweeper was
at work. What a session uses of a processor is counted, and not claims per second: rounds from 0.75 to 1.14 cannot tell 0.92
from 0.85. Also how many rows a second idempotent_sweep() deletes by hand, against how many were inserted a second by a plain
INSERT ... SELECT. Written to bench/sweep.json. Exits with 1 if a claim costs more than it may beside the sweeper, or the backlog lasts for longer than a minute.

Environment: as for run.py; the library must be preloaded. QUICK=1 takes a tenth of the records.
"""

import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import figures
from measure import CLIENTS, HERE, QUICK, Failure, drop, machine, prepare, psql, run, write

EXPIRED = 500_000 if QUICK else 5_000_000
LIVE = 100_000 if QUICK else 1_000_000
# Of the expired ones, left for idempotent_sweep() by hand.
BY_HAND = EXPIRED // 10
# Without a backlog there is nothing to compare.
ROUNDS = 40
# Long enough for the sweeper to rest as often as it does.
PAIRS = 2_000 if QUICK else 40_000
PROMISED = {"ratio": 0.95, "seconds": 60.0}


def switch(sweeper):
    psql(f"ALTER SYSTEM SET idempotent.sweeper_enabled = {sweeper}")
    psql("SELECT pg_reload_conf()")
    running = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_idempotent sweeper %'"
    while (psql(running) == "0") == (sweeper == "on") and backlog() > 0:
        time.sleep(0.05)


def backlog():
    """Roughly: 0 only if nothing is left."""
    return int(psql("SELECT count(*) FROM (SELECT FROM idempotent.record WHERE sweep_at < clock_timestamp() LIMIT 1) AS due"))


def claims():
    """Microseconds of processor time for a claim and its completion: the mean of sessions at work at once."""
    with ThreadPoolExecutor(CLIENTS) as sessions:
        taken = sessions.map(lambda _: float(psql(f"CALL bench.new_claims({PAIRS}, NULL)")), range(CLIENTS))
        return statistics.mean(taken)


def fill():
    began = time.monotonic()
    psql((HERE / "fill.sql").read_text(), expired=EXPIRED + BY_HAND, live=LIVE)
    return (EXPIRED + BY_HAND + LIVE) / (time.monotonic() - began)


def by_hand():
    began = time.monotonic()
    rows = int(psql(f"SELECT idempotent_sweep({BY_HAND})"))
    return rows / (time.monotonic() - began)


def take_turns():
    """(microseconds without, with), and for how long the sweeper was at work."""
    claims()
    without, beside, seconds = [], [], 0.0
    for round_number in range(ROUNDS):
        rates = {}
        # Who goes first changes from round to round: the tables grow meanwhile.
        for side in ("off", "on") if round_number % 2 else ("on", "off"):
            switch(side)
            began = time.monotonic()
            rates[side] = claims()
            if side == "on":
                seconds += time.monotonic() - began
                if backlog() == 0:
                    return without, beside, seconds
        without.append(rates["off"])
        beside.append(rates["on"])
    raise Failure(f"after {ROUNDS} rounds there is still a backlog")


def main():
    prepare()
    try:
        psql("ALTER SYSTEM SET idempotent.sweep_interval = '100ms'")
        switch("off")
        facts = machine()
        inserted = fill()
        deleted = by_hand()
        os.environ["PGOPTIONS"] = "-c synchronous_commit=off"
        without, beside, seconds = take_turns()
    finally:
        os.environ.pop("PGOPTIONS", None)
        psql("ALTER SYSTEM RESET idempotent.sweep_interval", "postgres")
        psql("ALTER SYSTEM RESET idempotent.sweeper_enabled", "postgres")
        psql("SELECT pg_reload_conf()", "postgres")
        drop()
    ratios = [off / on for on, off in zip(beside, without)]
    if not ratios:
        raise Failure("the backlog was gone within one round: take more records")
    ratio = statistics.median(ratios)
    write("sweep.json", {"machine": facts, "expired": EXPIRED, "live": LIVE, "targets": PROMISED, "without": without, "beside": beside, "ratio": ratio, "seconds": seconds,
                         "swept_by_hand": deleted, "inserted": inserted})
    print(figures.sweep())
    if ratio < PROMISED["ratio"] or seconds > PROMISED["seconds"]:
        raise Failure("less than promised")


if __name__ == "__main__":
    run(main)
