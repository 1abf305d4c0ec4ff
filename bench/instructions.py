"""`make bench-profile`: where the instructions of a call go, counted by callgrind in a server of a single process.

Each loop of bench/in_server.sql runs twice, with few calls and with more; what is told is the difference, per call. So the
figures are the same on a busy machine. Two things to know: callgrind's processor has no instructions for SHA-256, so digests count
for more than they cost, and instructions are not time.
"""

import re
import shutil
import subprocess
import time

import client_profile
import figures
from build import install
from common import MAIN_MAJOR, ROOT, Failure, need, run_main, say, step
from measure import write
from server import PRELOADED, Server, server_user

BENCH = ROOT / "bench"
BATCH_SIZE, FINISHED = 50, 2_000
# Loop, calls for each unit of its argument, the argument of the short run and of the long one.
LOOPS = {"claim_complete": (BATCH_SIZE, 10, 30), "run": (BATCH_SIZE, 10, 30), "retry": (FINISHED, 1, 2), "replay": (FINISHED, 1, 2)}
# What a function and all that it calls take; one may be part of another.
PARTS = {
    "the whole loop": r"ExecutorRun$",
    "the handler": r"plpgsql_call_handler'2$",
    "record id": r"Identity::record_id$",
    "fingerprint of the request": r"^pg_idempotent::(keys::request::fingerprint|pg::datum::jsonb::canonical_digest)$",
    "locks, of keys and of tables": r"LockAcquireExtended$",
    "opening tables and indexes": r"relation_open$",
    "look-up in the index": r"index_getnext_tid$",
    "forming tuples": r"heap_form_tuple$",
    "insert into the table": r"simple_heap_insert$",
    "insert into its indexes": r"index_insert$",
}


def load(server):
    """What the loops work on, as `make bench` does; the keys are drawn anew for each run by a copy of the data."""
    for name in ("schema", "rival", "in_server"):
        server.must((BENCH / f"{name}.sql").read_text())
    settings = f"\\set batch_size {BATCH_SIZE}\n\\set finished {FINISHED}\n\\set replayed {FINISHED}\n"
    server.must(settings + (BENCH / "preload.sql").read_text())
    server.must(f"TRUNCATE bench.key; INSERT INTO bench.key SELECT * FROM bench.new_keys(30, {BATCH_SIZE}); ANALYZE bench.key")


def profile(server, statement):
    """{function: instructions, with all it calls}."""
    data, out = server.base / "copy", server.base / "callgrind.out"
    shutil.rmtree(str(data), ignore_errors=True)
    server_run = {"cwd": str(server.base), "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "universal_newlines": True, **server_user()}
    subprocess.run(["cp", "-a", str(server.data), str(data)], check=True, **server_run)
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", str(server.prefix / "bin" / "postgres"), "--single", "-D", str(data), "postgres"]
    done = subprocess.run(command, input=statement + "\n", **server_run)
    if done.returncode != 0 or "ERROR" in done.stdout:
        raise Failure(f"callgrind failed on {statement}:\n{done.stdout[-3000:]}")
    listing = subprocess.run(["callgrind_annotate", "--inclusive=yes", "--threshold=100", str(out)], stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, check=True, universal_newlines=True).stdout
    counts = {}
    for line in listing.splitlines():
        found = re.match(r"\s*([\d,]+) \([ \d.]+%\)\s+\S*?:(\S.*?)(?: \[|$)", line)
        if found:
            # Where a function is inlined in parts it is listed for each of its files: the largest is the whole.
            name, count = found.group(2), int(found.group(1).replace(",", ""))
            counts[name] = max(counts.get(name, 0), count)
    return counts


def per_call(server, loop, side):
    calls, few, more = LOOPS[loop]
    short = profile(server, f"CALL bench.{loop}_{side}({few})")
    long = profile(server, f"CALL bench.{loop}_{side}({more})")
    return {name: (count - short.get(name, 0)) / (calls * (more - few)) for name, count in long.items()}


def largest(counts, pattern):
    return max((count for name, count in counts.items() if re.search(pattern, name)), default=0)


def parts(ours, rival):
    """{what: instructions}, of ours; and the whole of the rival's."""
    whole = PARTS["the whole loop"]
    return {"parts": {what: largest(ours, pattern) for what, pattern in PARTS.items()}, "rival": largest(rival, whole)}


def main():
    for program in ("valgrind", "callgrind_annotate"):
        need(program, "it counts the instructions", "apt-get install valgrind")
    server = Server(install(MAIN_MAJOR), settings={**PRELOADED, "shared_buffers": "'64MB'"})
    with step(f"preparing a Postgres {MAIN_MAJOR}"):
        server.start()
    try:
        load(server)
        server.shut_down()
        result = {"date": time.strftime("%Y-%m-%d"), "loops": {loop: parts(per_call(server, loop, "ours"), per_call(server, loop, "rival")) for loop in LOOPS},
                  **client_profile.measure(server)}
    finally:
        server.stop()
    written = write("profile.json", result)
    say("\n" + "\n".join(table for table in (figures.loops(), figures.instructions(), figures.in_from())))
    say(f"All counts are in {written}.")
    return 0


if __name__ == "__main__":
    run_main(main)
