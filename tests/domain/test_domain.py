"""The rules, and the model of many nodes that is made of them: no server, and no pgrx to compile. `make fuzz` gives the properties under random input their part of its MINUTES."""

import os

import pytest

from suites import SUITE_TIMEOUT, run_cargo

# The properties take turns on two cores: each gets so much of the time of all of them.
PROPERTIES, CORES, SHARE = 22, 2, 0.15


@pytest.mark.reports
def test_domain(report, wanted):
    env = dict(os.environ)
    if env.get("MINUTES"):
        # Not longer than a suite may take.
        all_of_them = min(int(env["MINUTES"]) * 60 * SHARE, SUITE_TIMEOUT / 2)
        env["FUZZ_SECONDS"] = f"{all_of_them * CORES / PROPERTIES:.1f}"
    if env.get("SEED"):
        env["FUZZ_SEED"] = env["SEED"]
    run_cargo(["test", "--profile", "quick", "--locked", "-p", "rules", "-p", "domain", "--lib", "--", *wanted], env, report)


@pytest.mark.reports
@pytest.mark.skipif(bool(os.environ.get("MINUTES")), reason="make fuzz")
def test_simulate(report, wanted):
    """A short run of `make simulate`, and every fault that can be planted in it."""
    if wanted:
        pytest.skip("one test is wanted")
    run_cargo(["test", "--profile", "quick", "--locked", "-p", "simulate"], dict(os.environ), report)
