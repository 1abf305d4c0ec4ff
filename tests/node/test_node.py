"""The client for Node (clients/node): types, eslint, its own tests."""

import subprocess

import pytest

import node_client as node
from common import Failure, say
from pooler import poolers
from server import PRELOADED
from suites import TEST, Stream, indent

SETTINGS = PRELOADED
TEST_TIMEOUT = 300_000  # milliseconds, for one test


@pytest.fixture(scope="module")
def client():
    """Installed and built, as its tests import it."""
    node.install()
    run("typescript/bin/tsc", "-p", "tsconfig.json")
    return node.CLIENT


def run(program, *arguments):
    done = subprocess.run([str(node.node()), str(node.CLIENT / "node_modules" / program), *arguments], cwd=str(node.CLIENT), env=node.node_env(),
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    if done.returncode != 0:
        raise Failure(f"{program} says:\n{done.stdout}".rstrip())


def test_types(client):
    run("typescript/bin/tsc", "-p", "tests/tsconfig.json")


def test_eslint(client):
    run("eslint/bin/eslint.js", "--max-warnings", "0", ".")


@pytest.mark.reports
def test_node(report, server, client, wanted):
    files = sorted((client / "tests").glob("*.test.ts"))
    # node/FILE::TEST is one test, node/FILE all of a file.
    chosen = {name.partition("::")[0] for name in wanted}
    files = [file for file in files if not chosen or file.name.partition(".")[0] in chosen]
    command = [node.node(), "--test", "--test-concurrency=4", f"--test-timeout={TEST_TIMEOUT}", f"--test-reporter={client / 'tests' / 'reporter.js'}", *files]
    failed = 0
    with poolers(server) as ports, Stream(command, node.node_env({**server.env(), **ports}), client) as lines:
        for line in lines:
            test = TEST.match(line)
            if test:
                name, _, took = test.group(1).rpartition(" ")
                failed += test.group(2) != "ok"
                report(name, test.group(2) == "ok", float(took) / 1000, "see what it says")
            elif line.strip():
                say(indent(line))
    if lines.code != 0 and not failed:
        raise Failure(f"node --test ended with {lines.code}, and not for a test")


from afterwards import test_server_logs_hold_nothing_harmful, test_tables_and_indexes_are_intact  # noqa: E402, F401 (the last)
