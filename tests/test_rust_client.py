"""The client for Rust: its package, and its own tests against a server of this layer. rustfmt, clippy and rustdoc look at it in `make lint`."""

import subprocess

import pytest

import rust_client as rust
from pooler import poolers
from server import PRELOADED
from suites import run_cargo

SETTINGS = PRELOADED


def test_the_package_has_what_it_needs():
    listed = subprocess.run(["cargo", "package", "--list", "--allow-dirty", *map(str, rust.MANIFEST)], stdout=subprocess.PIPE, universal_newlines=True,
                            check=True).stdout.splitlines()
    assert {"README.md", "CHANGELOG.md", "LICENSE", "src/lib.rs", "src/core/sql.rs"} <= set(listed)
    assert not [name for name in listed if name.startswith(("tests/", "conformance/"))]


@pytest.mark.reports
def test_suite(report, server, wanted):
    """With the applications that it starts, which cargo builds as examples, and with what README shows. rust-client/FILE::FUNCTION is one test."""
    with poolers(server) as ports:
        run_cargo(["test", "--locked", "--all-features", *rust.MANIFEST, "--", "--show-output", *wanted], rust.env({**server.env(), **ports}), report)


from afterwards import test_server_logs_hold_nothing_harmful, test_tables_and_indexes_are_intact  # noqa: E402, F401 (the last)
