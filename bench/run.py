"""`make bench`: how much a call costs, next to the same thing written by hand, in one run on one server.

What is timed takes turns, round after round; the tables show medians, never a figure alone. Ratios above 1 are in our favour.
The result is also written to bench/results.json, with all samples; bench/figures.py puts it into the documentation.
"""

import os
import time

import clients
import contention
import disk
import in_server
import network
import processor
import redis
from measure import HERE, drop, headline, machine, prepare, psql, run, table, write


def main():
    began = time.monotonic()
    prepare()
    tables = {}

    def take(name, title, rows):
        print(table(title, rows), flush=True)
        tables[name] = {"title": title, "rows": [dict(zip(("what", "against", "result", "target"), row)) for row in rows]}

    try:
        facts = machine()
        print(headline(facts), flush=True)
        take("in_server", *in_server.measure())
        psql((HERE / "check.sql").read_text())
        take("network", *network.measure())
        os.environ["PGOPTIONS"] = "-c synchronous_commit=off"
        take("processor", *processor.measure())
        take("contention", *contention.measure())
        for durability, title, rows in clients.measure():
            take(f"clients_{durability}", title, rows)
        take("disk", *disk.measure())
        take("redis", *redis.measure())
    finally:
        os.environ.pop("PGOPTIONS", None)
        drop()
    written = write("results.json", {"machine": facts, "tables": tables})
    print(f"Took {time.monotonic() - began:.0f} s. All samples are in {written}.")


if __name__ == "__main__":
    run(main)
