"""Tests within one session, #[pg_test]: `cargo pgrx test`, as extension developers run it. It has a server of its own; each test is rolled
back."""

import os

import pytest

import pgrx
from suites import run_cargo


@pytest.mark.reports
def test_pg_test(report, major, wanted):
    env = {**os.environ, **pgrx.settings()}
    run_cargo(["pgrx", "test", f"pg{major}", "--no-default-features", "--features", f"pg{major}", *wanted[:1]], env, report)
