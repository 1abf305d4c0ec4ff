"""`make lint`: rustfmt, clippy on every major, pgspot for the SQL scripts, cargo-deny for the crates, hadolint for the
Containerfile; any warning is an error.

It runs with the packages of requirements/lint.txt.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import rust_client
from build import build_env, install_script
from common import EXTENSION, MAIN_MAJOR, MAJORS, ROOT, Failure, run, run_main, say, step, target_dir
from postgres import main_prefix

EXCEPTIONS = ROOT / "tools" / "pgspot.exceptions"
# What pgspot calls a finding: "PS017: Unqualified object reference: text in ... at line 5".
FINDING = re.compile(r"^PS\d+: .*")
PLACE = re.compile(r"( in .*)? at line \d+$")
# A workspace of its own: what it is linked with is in no one's database.
DRIVERS = ROOT / "tests" / "drivers" / "rust"
ADVISORIES_TIMEOUT = 180  # seconds to fetch the database
PROGRAMS = ("rules", "domain", "client", "history", "simulate", "fuzz", "rivals")


def rustfmt():
    for workspace in (ROOT, DRIVERS):
        if subprocess.run(["cargo", "fmt", "--all", "--check"], cwd=str(workspace)).returncode != 0:
            raise Failure(f"not formatted as rustfmt does: cd {workspace} && cargo fmt --all")
    rust_client.rustfmt()


def clippy(major, *arguments):
    run(["cargo", "clippy", "--release", "--locked", *arguments, "--", "-D", "warnings"], env=build_env(main_prefix(major) / "bin" / "pg_config"))


def scripts():
    """Each script as Postgres runs it."""
    yield f"{EXTENSION}.sql", install_script()
    for update in sorted((ROOT / "sql").glob(f"{EXTENSION}--*.sql")):
        yield update.name, update.read_text()


def findings(name, text):
    with tempfile.TemporaryDirectory() as scratch:
        script = Path(scratch) / name
        # psql's own commands are none of SQL's.
        script.write_text(re.sub(r"(?m)^\\.*$", "", text))
        done = subprocess.run([str(Path(sys.executable).with_name("pgspot")), str(script)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              universal_newlines=True)
    found = [line for line in done.stdout.splitlines() if FINDING.match(line)]
    # It ends with 1 for errors, not for warnings; and with something else if it could not read the script.
    if done.returncode not in (0, 1) or "Errors:" not in done.stdout or (done.returncode and not found):
        raise Failure(f"pgspot does not work:\n{done.stdout}".rstrip())
    return {f"{name}: {PLACE.sub('', line)}": f"{name}: {line}" for line in found}


def pgspot():
    """It may find what is excepted, and nothing else. Exceptions are lines of `script: finding`, with the reason above them."""
    found = {}
    for name, text in scripts():
        found.update(findings(name, text))
    excepted = {line for line in EXCEPTIONS.read_text().splitlines() if line and not line.startswith("#")}
    wrong = [found[finding] for finding in sorted(set(found) - excepted)]
    wrong += [f"{EXCEPTIONS.name} excepts what is not found any more: {stale}" for stale in sorted(excepted - set(found))]
    if wrong:
        raise Failure("\n".join(wrong))


def cargo_deny(*arguments, **kwargs):
    run([Path(sys.executable).with_name("cargo-deny"), "--locked", *arguments], env={**os.environ, "GIT_TERMINAL_PROMPT": "0"}, **kwargs)


def advisories():
    """False where the database cannot be fetched, and so nobody knows; ADVISORIES=required makes that a failure."""
    try:
        cargo_deny("fetch", "db", timeout=ADVISORIES_TIMEOUT)
    except (Failure, subprocess.TimeoutExpired):
        if os.environ.get("ADVISORIES") == "required":
            raise Failure("the advisory database cannot be fetched") from None
        return False
    cargo_deny("check", "advisories")
    return True


def hadolint():
    run([Path(sys.executable).with_name("hadolint"), "--no-color", "packaging/Containerfile"])


def checks():
    yield "pgspot: the SQL scripts", pgspot
    yield "hadolint: the Containerfile", hadolint
    yield "cargo-deny: licences, sources and versions of crates", lambda: cargo_deny("check", "licenses", "bans", "sources")
    yield "cargo-deny: advisories", advisories
    for major in MAJORS:
        yield f"clippy: Postgres {major}", lambda: clippy(major, "--no-default-features", "--features", f"pg{major}", "--lib")
    yield "clippy: test functions", lambda: clippy(MAIN_MAJOR, "--no-default-features", "--features", f"pg{MAIN_MAJOR} pg_test", "--lib")
    yield "cargo-deny: licences, sources and versions of the crates of the client for Rust", lambda: cargo_deny(
        *rust_client.MANIFEST, "check", "--allow", "license-not-encountered", "--allow", "license-exception-not-encountered", "licenses", "bans", "sources")
    yield "clippy: the client for Rust", rust_client.clippy
    yield "rustdoc: the client for Rust", rust_client.rustdoc
    yield "clippy: the rules and the client programs", lambda: clippy(MAIN_MAJOR, *(word for name in PROGRAMS for word in ("-p", name)), "--all-targets")
    yield "clippy: the programs for the drivers", lambda: run(["cargo", "clippy", "--locked", "--target-dir", target_dir() / "drivers", "--all-targets",
                                                               "--", "-D", "warnings"], cwd=str(DRIVERS))


def main():
    for tool in ("fmt", "clippy"):
        if subprocess.run(["cargo", tool, "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0:
            raise Failure(f"cargo {tool} is missing. Install it with:\n    rustup component add rustfmt clippy")
    with step("rustfmt"):
        rustfmt()
    failed, skipped = [], False
    for title, check in checks():
        with step(title):
            try:
                skipped |= check() is False
            except Failure as failure:
                say(f"    FAILED: {failure}")
                failed.append(title)
    if skipped:
        say("\nSKIPPED: the advisory database cannot be fetched, so NOBODY has looked whether a crate has a known weakness.")
        say("Repeat it where it can be, and have it fail where it cannot: ADVISORIES=required make lint")
    if failed:
        raise Failure(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    run_main(main)
