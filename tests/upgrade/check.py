"""Tests of what comes between two versions, of the extension and of Postgres. `check.py MAJOR [PART OF A TEST'S NAME]`.

There is one version so far. What an update starts from is a version that never was: older.py makes it of today's.

On the main major: libraries and schemas that do not match, updates of busy servers, dumps, templates. On every major: whether an
updated schema is like a new one. pg_upgrade from 15 to 17 and from 17 to 18.
"""

import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "tools")]

import copies
import pg_upgrade
import schema
import update
from build import prepare
from common import MAIN_MAJOR, Failure, run_main, say
from harness import Cluster, Wrong, current_prefix
from suites import indent, report


def problem_of(test, arguments, afterwards):
    """What a test has found; None if all is well."""
    try:
        test(*arguments)
        afterwards()
        return None
    except (Wrong, Failure) as found:
        return str(found) or test.__name__


def run(tests, wanted, *arguments, afterwards=lambda: None):
    """Runs tests one after the other; returns how many passed, and how many failed."""
    passed = failed = 0
    for test in tests:
        if wanted not in test.__name__:
            continue
        began = time.monotonic()
        problem = problem_of(test, arguments, afterwards)
        report(test.__name__, problem is None, time.monotonic() - began)
        passed, failed = passed + (problem is None), failed + (problem is not None)
        if problem is not None:
            say(indent(problem))
    return passed, failed


def main():
    major, wanted = sys.argv[1], "".join(sys.argv[2:])
    prepare()
    tests = list(schema.TESTS)
    if major == MAIN_MAJOR:
        tests += update.TESTS + copies.TESTS
    with current_prefix(major) as prefix, Cluster(prefix, major, major) as server:
        results = [run(tests, wanted, server, afterwards=server.clear)]
    if major in pg_upgrade.FROM:
        results.append(run(pg_upgrade.tests(major), wanted, major))
    passed, failed = (sum(column) for column in zip(*results))
    say(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    run_main(main)
