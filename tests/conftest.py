"""What `make test` is on top of pytest: layers, the servers they run on, a summary of them, and the closing line that CI reads.

A layer is a file test_LAYER.py. ONLY names layers, or tests as docs/guarantees.md spells them ("regress/strict client/lease::a_heartbeat_keeps_the_lease");
MAJORS names majors of Postgres. Both may be given to pytest's own options as well: `-k`, `-x`, `--durations`, `--collect-only`.
"""

import os
import time
from collections import defaultdict
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

import logs
from build import ASSERTING, check_rust, install
from common import MAIN_MAJOR, Failure, seconds, unwind_on_signals
from server import Server
from suites import Regress

# In the order in which they run.
LAYERS = ("faults", "rooms", "domain", "pg_test", "regress", "function_scan", "upgrade", "isolation", "client", "history", "fuzz", "docs", "drill", "packages", "http", "python", "node",
          "rust_client", "drivers", "checkout", "demo", "scale", "speed")
# Where Postgres checks itself (`make test-cassert`): what runs long enough, and with enough faults, to show something.
ASSERTING_LAYERS = ("regress", "forgetful", "isolation", "client", "history")
ON_ALL_MAJORS = ("pg_test", "regress", "upgrade")
# On which the others run, where that is not the main one alone.
ON_SOME_MAJORS = {"packages": (MAIN_MAJOR, "15"), "scale": ("15",)}
# The last of each file, in this order (afterwards.py).
AFTERWARDS = ("test_tables_and_indexes_are_intact", "test_server_logs_hold_nothing_harmful")
ORDER = [MAIN_MAJOR] if ASSERTING else [MAIN_MAJOR, "16", "15", "18"]


def chosen(variable, known):
    """{name: what was chosen of it, or [] for all}; all of them if the variable is empty."""
    found = {}
    for word in os.environ.get(variable, "").replace(",", " ").split():
        name, _, part = word.partition("/")
        name = name.replace("-", "_")
        if name not in known:
            raise pytest.UsageError(f"{variable}={word}: known are {' '.join(known)}")
        found.setdefault(name, []).append(part)
    return {name: [] if "" in found[name] else found[name] for name in known if name in found} if found else {name: [] for name in known}


def majors_of(layer):
    """On which a layer runs, MAJORS aside. ALL_MAJORS names one that is to run on all of them."""
    on_all = layer in ON_ALL_MAJORS or layer == os.environ.get("ALL_MAJORS")
    return ORDER if on_all else ON_SOME_MAJORS.get(layer, (MAIN_MAJOR,))


def layer_of(item):
    return item.path.stem.replace("test_", "", 1)


def major_of(item):
    return getattr(item, "callspec", None) and item.callspec.params.get("major")


def name_of(item):
    """As docs/guarantees.md spells it, behind its layer: what the file calls `name`."""
    return item.callspec.params.get("name", item.name) if hasattr(item, "callspec") else item.name


def pytest_configure(config):
    unwind_on_signals()
    config.only = chosen("ONLY", ASSERTING_LAYERS if ASSERTING else LAYERS)
    config.majors = list(chosen("MAJORS", ORDER))
    config.majors_of = lambda layer: [major for major in config.majors if major in majors_of(layer)]
    config.servers = []
    config.addinivalue_line("markers", "reports: a function that reports tests of its own through the fixture `report`")
    if not config.option.collectonly:
        try:
            check_rust()
        except Failure as failure:
            pytest.exit(f"error: {failure}", returncode=1)


def pytest_ignore_collect(collection_path, config):
    if collection_path.name.startswith("test_") and collection_path.suffix == ".py":
        return True if collection_path.stem.replace("test_", "", 1) not in config.only else None


def pytest_generate_tests(metafunc):
    if "major" in metafunc.fixturenames:
        layer = metafunc.definition.path.stem.replace("test_", "", 1)
        metafunc.parametrize("major", metafunc.config.majors_of(layer), scope="module")


def is_wanted(item, wanted):
    """Of tests that have a `name`, those that ONLY names, or the file of; all others see to it themselves. `is_for` of a file says on which
    majors one runs."""
    name = name_of(item)
    if name == item.name:
        return True
    is_for = getattr(item.module, "is_for", lambda name, major: True)
    return is_for(name, major_of(item)) and (not wanted or any(name == word or name.startswith(f"{word}::") for word in wanted))


@pytest.hookimpl(trylast=True)  # pytest itself sorts by fixtures
def pytest_collection_modifyitems(config, items):
    items[:] = [item for item in items if is_wanted(item, config.only[layer_of(item)])]
    place = {layer: number for number, layer in enumerate(config.only)}
    items.sort(key=lambda item: (place[layer_of(item)], config.majors.index(major_of(item)) if major_of(item) else -1,
                                 AFTERWARDS.index(item.originalname) if item.originalname in AFTERWARDS else -1))


@pytest.fixture(scope="module")
def layer(request):
    return request.path.stem.replace("test_", "", 1)


@pytest.fixture(scope="module")
def wanted(request, layer):
    """The tests of the layer that ONLY names; none for all."""
    return request.config.only[layer]


@pytest.fixture(scope="module")
def server(request, layer, major):
    """A server for all tests of a file, with the file's SETTINGS. With backtraces on, one that leaks to a caller shows."""
    name = logs.directory() / f"{layer}-{major}.log"
    with Server(install(major), getattr(request.module, "SETTINGS", None), keep_log=name, backtrace=True) as running:
        request.config.servers.append(running)
        yield running
        request.config.servers.remove(running)


@pytest.fixture(scope="module")
def regress(request, server, major):
    """pg_regress or pg_isolation_regress, at work on those tests of the file that were chosen."""
    params = [item.callspec.params for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    names = [found["name"] for found in params if found["major"] == major and "name" in found]
    with Regress(server, major, request.path.parent.name, names) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def began(request, layer):
    """When the layer began: what its servers log is younger."""
    logs.directory().mkdir(parents=True, exist_ok=True)
    logs.clear(layer)
    return time.time()


@pytest.fixture
def report(request):
    """Reports a test that another program has run: report(name, whether it passed, seconds, what it said)."""
    def one(name, ok, took=0.0, said=""):
        request.node.reported += 1
        nodeid = f"{request.node.nodeid}::{name}"
        found = pytest.TestReport(nodeid, request.node.location, {}, "passed" if ok else "failed", None if ok else said or "failed", "call",
                                  duration=took)
        file, _, function = name.rpartition("::")
        found.major = major_of(request.node)
        # As docs/guarantees.md spells it.
        found.red = not ok and "/".join([layer_of(request.node), *(file.split("::") if file else []), ""])[:-1] + ("::" if file else "/") + function
        request.node.ihook.pytest_runtest_logreport(report=found)
        if not ok and request.session.shouldfail is False and request.config.option.maxfail == 1:
            request.session.shouldfail = "stopping after 1 failures"
    request.node.reported = 0
    return one


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    """A function that reports tests of its own is no test itself, but fails when something else went wrong, or nothing was reported."""
    if item.get_closest_marker("reports") is None:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, log=False, nextitem=nextitem)
    for found in reports:
        if found.failed:
            item.ihook.pytest_runtest_logreport(report=found)
    if not getattr(item, "reported", 0) and not any(found.failed or found.skipped for found in reports):
        nothing = pytest.TestReport(item.nodeid, item.location, {}, "failed", "not a single test ran", "call")
        item.ihook.pytest_runtest_logreport(report=nothing)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """An expected way to fail is a message, and no traceback."""
    found = yield
    found.major = major_of(item)
    expected = call.excinfo is not None and isinstance(call.excinfo.value, Failure)
    found.red = found.failed and call.when == "call" and not expected and f"{layer_of(item)}/{name_of(item)}"
    if found.failed and expected:
        found.longrepr = str(call.excinfo.value)
    return found


class Counts:
    """Passed and failed, by layer and major."""

    def __init__(self):
        self.began = time.monotonic()
        self.rows = defaultdict(lambda: [0, 0, 0.0])
        self.red = []

    def pytest_runtest_logreport(self, report):
        layer = Path(report.nodeid.partition("::")[0]).stem.replace("test_", "", 1)
        row = self.rows[f"{layer} {getattr(report, 'major', None) or ''}".strip()]
        row[0] += report.passed and report.when == "call"
        row[1] += report.failed
        row[2] += report.duration
        if getattr(report, "red", None):
            self.red.append(report.red)

    def totals(self):
        return sum(row[0] for row in self.rows.values()), sum(row[1] for row in self.rows.values())


def pytest_sessionstart(session):
    session.config.counts = Counts()
    session.config.pluginmanager.register(session.config.counts)


def pytest_terminal_summary(terminalreporter, config):
    write = terminalreporter.write_line
    terminalreporter.section(f"summary ({seconds(time.monotonic() - config.counts.began)})")
    for title, (passed, failed, took) in config.counts.rows.items():
        write(f"    {'FAILED' if failed else 'ok    '} {title:<16} {passed:>5} passed {failed:>4} failed  {seconds(took):>12}")


def pytest_unconfigure(config):
    if hasattr(config, "counts") and not config.option.collectonly:
        # For `make faults`: the tests that noticed one, without what could not be run.
        if os.environ.get("RED"):
            Path(os.environ["RED"]).write_text("".join(f"{red}\n" for red in config.counts.red))
        passed, failed = config.counts.totals()
        print(f"\n{passed} passed, {failed} failed", flush=True)


def pytest_report_teststatus(report):
    if report.when == "call" and report.passed:
        return "passed", "", f"ok ({report.duration:.1f} s)" if report.duration >= 1 else "ok"
    return None
