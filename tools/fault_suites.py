"""Runs the tests that are named for a fault, the cheapest first, and says which is the first that is red."""

import contextlib
import io
import re
from collections import namedtuple

import run_tests
import suites
from build import build_history, install
from common import MAIN_MAJOR, Failure
from history import run_history

HISTORY_SECONDS = 20
RED = re.compile(r"^ +(?:FAILED:? |VIOLATION )(\S.*?)(?:  \([\d.]+ s\))?$", re.M)

# The first test that failed, as README spells it; how many more did in the same layer; and what the layer printed.
Red = namedtuple("Red", "first more output")


def domain(_):
    return run_tests.domain(MAIN_MAJOR)


def regress(names):
    return run_tests.regress(MAIN_MAJOR, names)


def isolation(names):
    return run_tests.isolation(MAIN_MAJOR, names)


def client(names):
    names = [name.replace("/", "::") if "::" in name else f"{name.replace('/', '::')}::" for name in names]
    return run_tests.client(MAIN_MAJOR, names)


def history(mixes):
    prefix, program = install(MAIN_MAJOR), build_history()
    kept = [run_history(prefix, program, ["--seconds", str(HISTORY_SECONDS), "--seed", "5", "--mix", mix], suites.SUITE_TIMEOUT)
            for mix in mixes]
    return kept.count(True), kept.count(False)


# The domain needs no server, and most of its faults end there.
LAYERS = (domain, regress, isolation, client, history)


def limit(seconds):
    """A suite that takes longer hangs, which is no way to notice a fault."""
    suites.SUITE_TIMEOUT = seconds


def red_of(tests, layers):
    """The first red test in the first layer that has one; None if all are green."""
    for layer in layers:
        kind = layer.__name__
        names = [test.partition("/")[2] for test in tests if test.partition("/")[0] == kind]
        red = names and run(layer, kind, names)
        if red:
            return red
    return None


def run(layer, kind, names):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        passed, failed = layer(names)
    output = printed.getvalue()
    if passed + failed == 0:
        raise Failure(f"{kind}: not a single test ran of {' '.join(names)}")
    if not failed:
        return None
    red = [spell(kind, found) for found in RED.findall(output) if not found.startswith("ended after")]
    if not red:
        raise Failure(f"{kind} ended without a red test:\n{output[-2000:]}")
    return Red(red[0], len(set(red)) - 1, output)


def spell(kind, found):
    if kind == "history":
        return f"history: {found.split(' ')[0].rstrip(':')}"
    if kind in ("domain", "client"):
        file, _, function = found.replace("domain::", "", 1).replace("::tests::", "::").rpartition("::")
        return f"{kind}/{file.replace('::', '/')}::{function}"
    return f"{kind}/{found}"
