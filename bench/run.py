"""`make bench`: how much a call costs, next to the same thing written by hand, in one run on one server.

What is timed takes turns, round after round; the tables show medians, never a figure alone. Ratios above 1 are in our favour.
The result is also written to bench/results.json, with all samples.
"""

import os
import time

import clients
import contention
import disk
import in_server
import redis
from measure import HERE, drop, headline, machine, prepare, psql, run, table, write


def main():
    began = time.monotonic()
    prepare()
    tables = []

    def take(title, rows):
        table(title, rows)
        tables.append({"title": title, "rows": [dict(zip(("what", "against", "result", "target"), row)) for row in rows]})

    try:
        facts = machine()
        print(headline(facts), flush=True)
        take(*in_server.measure())
        psql((HERE / "check.sql").read_text())
        os.environ["PGOPTIONS"] = "-c synchronous_commit=off"
        take(*contention.measure())
        for title, rows in clients.measure():
            take(title, rows)
        take(*disk.measure())
        for title, rows in redis.measure():
            take(title, rows)
    finally:
        os.environ.pop("PGOPTIONS", None)
        drop()
    written = write("results.json", {"machine": facts, "tables": tables})
    print(f"Took {time.monotonic() - began:.0f} s. All samples are in {written}.")


if __name__ == "__main__":
    run(main)
