"""`make test`: every test there is. The last line is the count; `ONLY=regress,isolation MAJORS=17` runs a part.

`make test-cassert` sets ASSERTING=1: those for which it makes a difference, on a Postgres with assertions."""

import os
import time
from pathlib import Path

import logs
from build import ASSERTING, build_client, build_history, install, prepare
from common import MAIN_MAJOR, MAJORS, ROOT, Failure, run_main, say, seconds
from fetch import cdnow_path
from fuzz import PARTS, run_fuzz
from history import run_history
from pgbouncer import pgbouncer
from run_demo import SETTINGS, run_scripts
from server import PRELOADED, Server
from suites import SUITE_TIMEOUT, indent, report, run_cargo_test, run_check, run_pg_test, run_regress
from toolchain import cargo_env, check_rust

# Where Postgres checks itself: what runs long enough, and with enough faults, to show something.
ASSERTING_LAYERS = ("regress", "forgetful", "isolation", "client", "history")
LAYERS = ("faults", "rooms", "domain", "pg_test", "regress", "upgrade", "isolation", "client", "history", "fuzz", "docs", "demo", "speed")

FORGETFUL = ("claim_transaction", "claim_lease", "complete_fail_release", "run_handlers", "commit_guard", "settle", "reset")

# The bounded runs of the history checker: seconds, faults, mix. `make soak` runs it for as long as wanted.
HISTORIES = ((60, "all", "everything"), (20, "none", "everything"), (20, "all", "leases"))


def domain(major):
    # Not `cargo test --lib domain::`: that runs the same tests, but compiles all of pgrx's test framework first.
    check_rust()
    return run_cargo_test(["--profile", "quick", "--locked", "-p", "rules", "-p", "domain", "--lib"], dict(os.environ))


def faults(major):
    return run_check("faults", dict(os.environ))


def rooms(major):
    return run_check("rooms", dict(os.environ))


def pg_test(major):
    return on_server(run_pg_test, install(major, for_tests=True), f"pg_test-{major}", backtrace=False)


def regress(major, tests=()):
    # Nobody sweeps behind the back of what counts rows.
    settings = {**PRELOADED, "idempotent.sweeper_enabled": "off"}
    return on_server(lambda server: run_regress(server, major, ROOT / "tests" / "pg_regress", tests=tests),
                     install(major), f"regress-{major}", settings)


def forgetful(major):
    """Regress cases on a server that forgets what it has cached as often as it could have to: what is used afterwards all the
    same, or was freed, shows. It takes a hundred times as long, so these are the cases that look at everything once."""
    settings = {**PRELOADED, "idempotent.sweeper_enabled": "off", "debug_discard_caches": "1"}
    return on_server(lambda server: run_regress(server, major, ROOT / "tests" / "pg_regress", tests=FORGETFUL),
                     install(major), f"forgetful-{major}", settings)


def isolation(major, tests=()):
    return on_server(lambda server: run_regress(server, major, ROOT / "tests" / "isolation", isolation=True, tests=tests),
                     install(major), f"isolation-{major}")


def client(major, tests=()):
    prefix, programs = install(major), build_client()
    logs.clear(f"client-{major}")

    def run(server):
        # cargo's settings and the server's; one test at a time, because some of them take the server down.
        env = {**cargo_env(), **server.env(), "DEMO_BIN": str(programs), "CDNOW": str(cdnow_path()), "PGBOUNCER": str(pgbouncer()),
               "KEEP_LOGS": str(logs.directory() / f"client-{major}-"), "FIGURES": str(logs.directory() / f"client-{major}.figures")}
        env.setdefault("RUST_TEST_THREADS", "1")
        figures = Path(env["FIGURES"])
        figures.unlink(missing_ok=True)
        done = run_cargo_test(["--release", "--locked", "-p", "client", "--no-fail-fast", "--", *tests], env)
        if figures.exists():
            say(indent(figures.read_text()))
        return done

    return on_server(run, prefix, f"client-{major}", PRELOADED)


def history(major):
    prefix, program = install(major), build_history()
    passed, failed = run_cargo_test(["--release", "--locked", "-p", "history"], cargo_env())
    logs.clear("history")
    for length, faults, mix in HISTORIES:
        began = time.monotonic()
        ok = run_history(prefix, program, ["--seconds", str(length), "--faults", faults, "--mix", mix], SUITE_TIMEOUT)
        report(f"history of {length} s, faults: {faults}, mix: {mix}", ok, time.monotonic() - began)
        passed, failed = passed + ok, failed + (not ok)
    return passed, failed


def fuzz(major):
    return run_fuzz(PARTS)


def docs(major):
    return on_server(lambda server: run_check("docs", server.env()), install(major), f"docs-{major}", PRELOADED)


def speed(major):
    return on_server(lambda server: run_check("speed", server.env()), install(major), f"speed-{major}", PRELOADED)


def upgrade(major):
    # It installs what it needs and starts servers of its own: pg_upgrade wants two majors.
    return run_check("upgrade", dict(os.environ), major)


def demo(major):
    prefix, programs = install(major), build_client()
    return on_server(lambda server: run_scripts(server, programs, verbose=False), prefix, f"demo-{major}", SETTINGS)


# pg_test and isolation do without preload, as an installation may.
def on_server(run, prefix, name, settings=None, backtrace=True):
    """Runs a suite on a server of its own, and looks at what it has left there."""
    # With backtraces on, one that leaks to a caller shows in the expected output.
    with Server(prefix, settings, keep_log=logs.directory() / f"{name}.log", backtrace=backtrace) as server:
        passed, failed = run(server)
        began = time.monotonic()
        flaws = server.flaws()
        report("tables and indexes are intact (pg_amcheck)", not flaws, time.monotonic() - began)
        if flaws:
            say(indent(flaws))
        return passed + (not flaws), failed + bool(flaws)


def plan(only, majors):
    """(title, function, major) in the order they run: the main major first, in full."""
    if "faults" in only:
        yield "faults: that each still applies", faults, None
    if "rooms" in only:
        yield "rooms: imports go one way", rooms, None
    if "domain" in only:
        yield "domain: no server", domain, None
    for major in majors:
        for layer, function in (("pg_test", pg_test), ("regress", regress), ("upgrade", upgrade)):
            if layer in only:
                yield f"{layer} on Postgres {major}", function, major
    if MAIN_MAJOR in majors:
        for layer, function in (("forgetful", forgetful), ("isolation", isolation), ("client", client), ("history", history), ("fuzz", fuzz),
                                ("docs", docs), ("demo", demo), ("speed", speed)):
            if layer in only:
                yield f"{layer} on Postgres {MAIN_MAJOR}", function, MAIN_MAJOR


def chosen(variable, known):
    names = os.environ.get(variable, "").replace(",", " ").split()
    for name in names:
        if name not in known:
            raise Failure(f"{variable}={name}: known are {' '.join(known)}")
    return [name for name in known if name in names] if names else list(known)


def main():
    order = [MAIN_MAJOR] + [m for m in ("16", "15", "18") if m in MAJORS]
    if ASSERTING:
        only, majors = chosen("ONLY", ASSERTING_LAYERS), [MAIN_MAJOR]
    else:
        only, majors = chosen("ONLY", LAYERS), chosen("MAJORS", order)
    began = time.monotonic()
    prepare()
    rows = []
    for title, function, major in plan(only, majors):
        say(f"\n==> {title}")
        start, since = time.monotonic(), time.time()
        try:
            passed, failed = function(major)
            if passed + failed == 0:
                say("    FAILED: not a single test ran")
                failed = 1
            harmless, harmful = logs.check(since)
            passed, failed = passed + harmless, failed + harmful
        except Failure as failure:
            say(f"    FAILED: {failure}")
            passed, failed = 0, 1
        took = time.monotonic() - start
        rows.append((title, passed, failed, took))
        say(f"    {passed} passed, {failed} failed in {seconds(took)}")
    say(f"\n==> summary ({seconds(time.monotonic() - began)})")
    for title, passed, failed, took in rows:
        say(f"    {'FAILED' if failed else 'ok    '} {title:<28} {passed:>5} passed {failed:>4} failed  {seconds(took):>12}")
    passed, failed = sum(row[1] for row in rows), sum(row[2] for row in rows)
    say(f"\n{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    run_main(main)
