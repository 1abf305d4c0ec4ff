"""Builds the extension and installs it into a private prefix; skips all of it while the inputs are unchanged."""

import json
import os

from cargo import run_cargo
from cassert import cassert_prefix
from common import EXTENSION, ROOT, checkout_dir, hash_inputs, locked, step, target_dir
from fetch import fetch
from prefix import main_prefix, test_prefix
from toolchain import cargo_env, cargo_pgrx, check_rust, foreign_env, rustc_version

# Whether the suites run on a Postgres that checks itself (`make test-cassert`).
ASSERTING = os.environ.get("ASSERTING") == "1"
INPUTS = ("src", "crates", "Cargo.toml", "Cargo.lock", f"{EXTENSION}.control", "build.rs", ".cargo")


def prepare():
    """What everything else needs; whatever is missing is named before anything long begins."""
    check_rust()
    fetch()


def inputs_hash(*more):
    """Hash of everything the library and its install script are made of."""
    check_rust()
    paths = [ROOT / name for name in INPUTS] + sorted((ROOT / "sql").glob("*.sql"))
    return hash_inputs(paths, rustc_version(), *more)


def installed_files(prefix):
    """What an install has put into a prefix, with sizes and times: another install by hand must not go unnoticed."""
    found = list((prefix / "lib").glob(f"{EXTENSION}*")) + list((prefix / "share" / "extension").glob(f"{EXTENSION}*"))
    return {str(path.relative_to(prefix)): [path.stat().st_size, path.stat().st_mtime_ns] for path in sorted(found)}


def install(major, for_tests=False):
    """Makes sure the current source is installed for a major and returns the prefix."""
    prefix = cassert_prefix() if ASSERTING else test_prefix(major) if for_tests else main_prefix(major)
    stamp = checkout_dir() / f"{prefix.name}.stamp"
    wanted = inputs_hash(major, for_tests)
    if stamp.exists() and prefix.is_dir():
        kept = json.loads(stamp.read_text())
        if kept["inputs"] == wanted and kept["files"] == installed_files(prefix):
            return prefix
    pg_config = prefix / "bin" / "pg_config"
    # With assertions some of Postgres' structures look different, so nothing of the other builds is used.
    env = foreign_env(pg_config, target_dir() / "cassert") if ASSERTING else cargo_env()
    # Rust's own assertions come with a debug build.
    profile = [] if ASSERTING else ["--release"]
    with locked(checkout_dir()):
        what = " with its test functions" if for_tests else " with assertions" if ASSERTING else ""
        with step(f"building {EXTENSION}{what} for Postgres {major} and installing it into a private prefix"):
            stamp.unlink() if stamp.exists() else None
            for left in installed_files(prefix):
                (prefix / left).unlink()
            features = f"pg{major} pg_test" if for_tests else f"pg{major}"
            run_cargo([cargo_pgrx(), "pgrx", "install", *profile, "--no-default-features", "--features", features]
                      + (["--test"] if for_tests else []) + ["--pg-config", pg_config],
                      env, f"install-{prefix.name}")
            stamp.write_text(json.dumps({"inputs": wanted, "files": installed_files(prefix)}))
    return prefix


def build_client():
    """Builds the client programs and returns the directory they are in. cargo itself knows when there is nothing to do."""
    env = cargo_env()
    with step("building the client programs"):
        run_cargo(["cargo", "build", "--release", "-p", "client", "--locked"], env, "client")
    return target_dir() / "release"


def build_rivals():
    """Builds the program that drives us and the rivals that are no SQL, and returns its path."""
    env = cargo_env()
    with step("building the client of the rivals"):
        run_cargo(["cargo", "build", "--release", "-p", "rivals", "--locked"], env, "rivals")
    return target_dir() / "release" / "rivals"


def build_history():
    """Builds the history checker and returns its path."""
    env = cargo_env()
    with step("building the history checker"):
        run_cargo(["cargo", "build", "--release", "-p", "history", "--locked"], env, "history")
    return target_dir() / "release" / "history"


def build_fuzz():
    """Builds what makes random input and returns its path."""
    env = cargo_env()
    with step("building what makes random input"):
        run_cargo(["cargo", "build", "--profile", "quick", "-p", "fuzz", "--locked"], env, "fuzz")
    return target_dir() / "quick" / "fuzz"
