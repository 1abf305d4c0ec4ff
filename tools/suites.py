"""The kinds of tests: each function runs one suite, reports every test by name and returns (passed, failed)."""

import os
import re
import shutil
import subprocess
import sys
import threading
import time

from common import EXTENSION, ROOT, Failure, say, target_dir

FUNCTION_TIMEOUT = 120       # seconds, one #[pg_test] function
SUITE_TIMEOUT = 20 * 60      # seconds, one whole suite
DIFF_LINES = 400             # of a regress failure, in the terminal
EXPECTED_ERROR = re.compile(r'#\[pg_test\(\s*(?:error|expected)\s*=\s*"((?:[^"\\]|\\.)*)"\s*\)\]\s*(?:#\[[^\]]*\]\s*)*(?:pub\s+)?fn\s+(\w+)')


def report(name, ok, took=None):
    say(f"    {'ok    ' if ok else 'FAILED'} {name}" + (f"  ({took:.1f} s)" if took is not None and took >= 1 else ""))


def indent(text):
    return "\n".join(f"        {line}" for line in text.rstrip().splitlines())


def expected_errors():
    """What #[pg_test(error = "...")] functions are to fail with: only the source knows."""
    found = {}
    for path in (ROOT / "src").rglob("*.rs"):
        for message, name in EXPECTED_ERROR.findall(path.read_text(errors="replace")):
            found[name] = message.replace('\\"', '"').replace("\\n", "\n").replace("\\\\", "\\")
    return found


def run_pg_test(server):
    """Every function of schema `tests` without arguments and result, each in a transaction of its own that is rolled back."""
    server.must("CREATE DATABASE pg_test")
    server.must(f"CREATE EXTENSION {EXTENSION}", "pg_test")
    names = server.must("SELECT p.proname FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace "
                        "WHERE n.nspname = 'tests' AND p.pronargs = 0 AND p.prorettype = 'void'::pg_catalog.regtype ORDER BY 1", "pg_test").split()
    expected = expected_errors()
    passed = failed = 0
    for name in names:
        began = time.monotonic()
        code, _, errors = server.psql(f"SET statement_timeout = '{FUNCTION_TIMEOUT}s';\nBEGIN;\nSELECT tests.\"{name}\"();\nROLLBACK;\n", "pg_test")
        if name in expected:
            ok = code != 0 and expected[name] in errors
            errors = errors or f"expected the error: {expected[name]}"
        else:
            ok = code == 0
        report(name, ok, time.monotonic() - began)
        passed, failed = passed + ok, failed + (not ok)
        if not ok:
            say(indent(errors))
            wait_for(server)
    return passed, failed


def wait_for(server):
    """After a failure: a crashed server needs a moment to come back."""
    for _ in range(100):
        if server.psql("SELECT 1")[0] == 0:
            return
        time.sleep(0.1)


# "ok 1  - name   12 ms" since Postgres 16, "test name   ... ok   12 ms" in 15 (and without "test" within a group)
TAP = re.compile(r"^(not ok|ok)\s+\d+\s+[-+]\s+(\S+)\s+(\d+) ms")
OLD = re.compile(r"^(?:test)?\s+(\S+)\s+\.\.\.\s+(ok|FAILED)\s.*?(\d+) ms")


def run_regress(server, major, directory, isolation=False, tests=None):
    """A suite of pg_regress (or pg_isolation_regress) against the running server: the whole schedule, or these tests."""
    schedule = directory / "schedule"
    if not schedule.exists():
        raise Failure(f"{schedule.relative_to(ROOT)} is missing")
    kind = "isolation" if isolation else "regress"
    program = server.prefix / "lib" / "pgxs" / "src" / "test" / kind / ("pg_isolation_regress" if isolation else "pg_regress")
    out = target_dir() / "test-results" / f"{kind}-{major}"  # stays, for whoever writes an expected file
    shutil.rmtree(str(out), ignore_errors=True)
    out.mkdir(parents=True)
    command = [str(program), f"--bindir={server.prefix / 'bin'}", f"--inputdir={directory}", f"--outputdir={out}", f"--dbname={kind}",
               *(tests or [f"--schedule={schedule}"]), f"--host={server.base}", f"--port={server.port}", "--user=postgres"]
    if int(major) >= 16:
        command.append(f"--expecteddir={directory}")
    if isolation:
        command.append(f"--load-extension={EXTENSION}")
    env = server.env(kind)
    env.pop("PGAPPNAME")  # the driver sets its own, and specs may look at it
    env["LD_LIBRARY_PATH"] = str(server.prefix / "lib")
    passed = failed = 0
    other = []

    def line_of(line):
        nonlocal passed, failed
        tap, old = TAP.match(line), OLD.match(line)
        if tap or old:
            name = tap.group(2) if tap else old.group(1)
            ok = tap.group(1) == "ok" if tap else old.group(2) == "ok"
            report(name, ok, int((tap or old).group(3)) / 1000)
            passed, failed = passed + ok, failed + (not ok)
        else:
            other.append(line)

    if stream(command, env, line_of, cwd=str(out)) != 0:
        differences = out / "regression.diffs"
        lines = differences.read_text(errors="replace").splitlines() if differences.exists() else other
        say(indent("\n".join(lines[:DIFF_LINES])))
        say(f"    {'the rest of the difference is' if len(lines) > DIFF_LINES else 'results are'} in {out}")
        failed = failed or 1
    return passed, failed


COUNT = re.compile(r"^(\d+) passed, (\d+) failed$")


def run_check(directory, env, *arguments):
    """A suite of ours, tests/DIRECTORY/check.py: it reports by itself, and ends with the count."""
    passed = failed = 0

    def line_of(line):
        nonlocal passed, failed
        count = COUNT.match(line)
        if count:
            passed, failed = passed + int(count.group(1)), failed + int(count.group(2))
        else:
            say(line)

    if stream([sys.executable, str(ROOT / "tests" / directory / "check.py"), *arguments], env, line_of, cwd=str(ROOT)) != 0:
        failed = failed or 1
    return passed, failed


RESULT = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed")
TEST = re.compile(r"^test (.+?) \.\.\. (\w+)")


def run_cargo_test(arguments, env):
    """`cargo test`: counts the tests of every binary it runs."""
    passed = failed = 0
    quiet = re.compile(r"^\s*(Compiling|Downloaded|Downloading|Updating|Locking|Finished|Running|Blocking|Fresh|Adding|Dirty)\b|^running \d+ tests?$")
    last = time.monotonic()

    def line_of(line):
        nonlocal passed, failed, last
        result, test = RESULT.match(line), TEST.match(line)
        if result:
            passed, failed = passed + int(result.group(1)), failed + int(result.group(2))
        elif test:
            report(test.group(1), test.group(2) != "FAILED")
        elif line.startswith("   Compiling") and time.monotonic() - last > 10:
            last = time.monotonic()
            say(f"    {line.strip()}")
        elif line.strip() and not quiet.match(line):
            say(indent(line))

    code = stream(["cargo", "test", *arguments], env, line_of, cwd=str(ROOT))
    if code != 0:
        failed = failed or 1
    return passed, failed


def stream(command, env, line_of, cwd, timeout=None):
    """Runs a command, hands on its output line by line, ends it when it hangs; returns its exit code."""
    timeout = timeout or SUITE_TIMEOUT
    process = subprocess.Popen(command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               universal_newlines=True, errors="replace", start_new_session=True)

    def too_late():
        say(f"    FAILED: ended after {timeout // 60} minutes: {' '.join(command[:3])}")
        end_group(process.pid)

    late = threading.Timer(timeout, too_late)
    late.start()
    try:
        for line in process.stdout:
            line_of(line.rstrip("\n"))
        return process.wait()
    finally:
        late.cancel()
        if process.poll() is None:
            end_group(process.pid)
            process.wait()


def end_group(pid):
    try:
        os.killpg(pid, 15)
        time.sleep(1)
        os.killpg(pid, 9)
    except ProcessLookupError:
        pass
