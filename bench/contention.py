"""Many clients at once: on one key whose work is slow, and on a few keys that are finished."""

import tempfile
from pathlib import Path

from measure import DATABASE, HERE, QUICK, Failure, compare, pgbench, psql, tool, turns

CROWD = 64
ROUNDS = 3 if QUICK else 9
SLOW_HANDLER = """
    CREATE TABLE bench.execution (sample integer);
    CREATE FUNCTION bench.slow(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_sleep(0.1);
        INSERT INTO bench.execution VALUES ((request ->> 'sample')::integer);
        RETURN request;
    END $$;
"""


def slowest(sample, clients):
    """Milliseconds until the last of so many clients, who begin together, has its answer."""
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        tool("pgbench", "-n", "-M", "prepared", "-c", clients, "-j", 2, "-t", 1, "-l", f"--log-prefix={log}",
             "-D", f"sample={sample}", "-D", f'request={{"sample": {sample}}}', "-f", HERE / "client" / "one_key.sql", DATABASE)
        # client, number, latency in microseconds, ...
        lines = [line.split() for path in Path(directory).iterdir() for line in path.read_text().splitlines()]
    executed = int(psql(f"SELECT count(*) FROM bench.execution WHERE sample = {sample}"))
    if len(lines) != clients or executed != 1:
        raise Failure(f"{clients} clients on one key: {len(lines)} answers, {executed} executions")
    return max(float(line[2]) for line in lines) / 1000


def one_key():
    alone, crowd = [], []
    for round_number in range(ROUNDS):
        alone.append(slowest(2 * round_number, 1))
        crowd.append(slowest(2 * round_number + 1, CROWD))
    return compare(crowd, alone, False)


def hot_keys():
    taken = {"hot_keys": [], "replay": []}
    for round_number in range(ROUNDS):
        for script in turns(round_number, tuple(taken)):
            taken[script].append(pgbench(HERE / "client" / f"{script}.sql", clients=CROWD))
    return compare(taken["hot_keys"], taken["replay"], True)


def measure():
    psql(SLOW_HANDLER)
    rows = [
        (f"{CROWD} clients on one key, until the last has the answer, ms", "one execution of 100 ms", one_key(), round(1 / 1.3, 2)),
        (f"{CROWD} clients on 64 keys, replays a second", "on 20,000 keys", hot_keys(), 0.9),
    ]
    return f"{CROWD} clients at once; medians of {ROUNDS} rounds:", rows
