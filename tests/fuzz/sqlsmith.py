"""Debian's sqlsmith over the extension's functions: random statements, and the proof that they really called them."""

import re
import shutil
import subprocess
import time

import logs
from common import ROOT, say
from debian import TRIPLET, Apt, unpacked
from server import PRELOADED, Server
from suites import indent

RELEASE = "bookworm"
# With what it was built for; libpq is that of the Postgres under test, and the rest is everywhere.
PACKAGES = ("sqlsmith", "libpqxx-6.4", "libsqlite3-0")
# Errors leave their SQLSTATE in the log, functions their number of calls, and nobody waits for long.
SETTINGS = {**PRELOADED, "log_line_prefix": "'%m [%p] %e '", "log_min_error_statement": "panic", "track_functions": "all",
            "idempotent.default_wait": "'10ms'", "idempotent.sweep_interval": "'1s'"}
# Statements that it makes in one go before the clock is asked.
PORTION = 300
# Seconds: how much longer than asked it may go on, and what a portion gets at least.
PATIENCE, LEAST = 180, 10
# Not those that give slots away or forget what is known, which few statements can: `regress/nodes_move` calls them.
CALLS = """
SELECT p.proname, coalesce(s.calls, 0) FROM pg_proc AS p
JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension AS e ON e.oid = d.refobjid
LEFT JOIN pg_stat_user_functions AS s ON s.funcid = p.oid
WHERE e.extname = 'pg_idempotent' AND p.prorettype <> 'trigger'::regtype AND p.prokind = 'f'
  AND p.proname <> ALL ('{idempotent_own,own_slots,announce_own,wait_for_slots,wait_for_writers,stop_callers,join_callers,leased,lost_before,idempotent_ignorant,idempotent_export,fence_above,position_above}')"""


def home():
    """Where it is, unpacked; nothing is installed."""
    return unpacked(f"sqlsmith-{RELEASE}", "Debian's sqlsmith", 1, lambda directory: Apt(suite=RELEASE).programs(PACKAGES, directory), PACKAGES)


def command_and_libraries(prefix):
    """The program, one that is installed if there is, and where its libraries are."""
    given = shutil.which("sqlsmith")
    if given:
        return given, str(prefix / "lib")
    directory = home()
    return str(directory / "usr" / "bin" / "sqlsmith"), f"{prefix / 'lib'}:{directory / 'usr' / 'lib' / TRIPLET}"


def calls_of(server):
    """How often each function came to an end without an error."""
    return {name: int(count) for name, count in (line.split("|") for line in server.must(CALLS).splitlines())}


def never_called(server):
    return sorted(name for name, count in calls_of(server).items() if count == 0)


def run_sqlsmith(prefix, length, seed):
    """The server must be there to the end, and every function called with success. Its log is judged with all others."""
    program, libraries = command_and_libraries(prefix)
    made = bad = code = 0
    with Server(prefix, SETTINGS, keep_log=logs.directory() / "sqlsmith.log", backtrace=True) as server:
        server.must((ROOT / "tests" / "fuzz" / "sqlsmith.sql").read_text())
        env = {**server.env(), "LD_LIBRARY_PATH": libraries, "PGOPTIONS": "-c search_path=smith,pg_catalog,public"}
        ends = time.monotonic() + length
        # A slow machine is no failure: there is more time, as long as a function was never called.
        while code == 0 and (time.monotonic() < ends or time.monotonic() < ends + PATIENCE and never_called(server)):
            command = [program, "--target=", "--exclude-catalog", "--verbose", f"--seed={seed}", f"--max-queries={PORTION}"]
            try:
                done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                      universal_newlines=True, errors="replace", timeout=max(ends - time.monotonic(), LEAST))
            except subprocess.TimeoutExpired:
                seed += 1
                continue  # the time is over: its calls count, its own report is lost
            code, seed = done.returncode, seed + 1
            rate = re.findall(r"error rate: ([0-9.e-]+)", done.stderr)
            made, bad = made + PORTION, bad + round(float(rate[-1] if rate else 1) * PORTION)
            if code != 0:
                say(indent(f"sqlsmith ended with {code}: {done.stderr[-1500:]}"))
        alive = server.psql("SELECT idempotent_sweep()")[0] == 0
        calls, never = calls_of(server), never_called(server)
    say(indent(f"last seed {seed}: {made} statements, {made - bad} of them good; {sum(calls.values())} calls of {len(calls)} functions, "
               f"the least {min(calls.values(), default=0)}"))
    assert alive, "the server does not answer"
    assert code == 0, f"sqlsmith ended with {code}"
    assert calls and not never, f"never called with success: {', '.join(never)}"
