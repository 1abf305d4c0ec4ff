"""`make release-check`: whether the source as it stands can be released (docs/releasing.md). Says all that is in the way, not only the first."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile

import debian
import pack
from build import build_env, extension_version
from common import EXTENSION, MAIN_MAJOR, MAJORS, ROOT, Failure, cache_dir, locked, output_of, run, run_main, say, step, target_dir
from in_venv import interpreter
from postgres import main_prefix

PGXN_META = "0.7.0"
RELEASED = re.compile(r"v(\d+)\.(\d+)\.(\d+)")
# As Keep a Changelog has it, with the day.
SECTION = r"^## {version} \(\d{{4}}-\d{{2}}-\d{{2}}\)$"


def text(name):
    return (ROOT / name).read_text()


def git(*arguments):
    return output_of(["git", "-c", f"safe.directory={ROOT}", *arguments], cwd=str(ROOT))


def versions():
    """Every file that names the extension's version."""
    version = extension_version()
    locked_version = re.search(rf'^name = "{EXTENSION}"\nversion = "([^"]+)"', text("Cargo.lock"), re.M).group(1)
    if locked_version != version:
        yield f"Cargo.lock has {locked_version}, Cargo.toml {version}"
    for name in (f"{EXTENSION}.control", "META.json.in"):
        if "@CARGO_VERSION@" not in text(name):
            yield f"{name} names a version of its own, and not @CARGO_VERSION@"
    if not re.search(SECTION.format(version=re.escape(version)), text("CHANGELOG.md"), re.M):
        yield f"CHANGELOG.md has no section \"## {version} (YYYY-MM-DD)\""


def clients():
    """A client may be released more often than the extension. Its major version says with which one it works."""
    major = extension_version().partition(".")[0]
    package, lock = (json.loads(text(f"clients/node/{name}.json")) for name in ("package", "package-lock"))
    found = {"clients/python/pyproject.toml": version_of_project(), "clients/node/package.json": package["version"]}
    for name, version in found.items():
        if version.partition(".")[0] != major:
            yield f"{name} is of version {version}, and the extension of {extension_version()}"
    if {lock["version"], lock["packages"][""]["version"]} != {package["version"]}:
        yield "clients/node/package-lock.json is of another version than package.json"
    for name in ("python", "node"):
        changelog = ROOT / "clients" / name / "CHANGELOG.md"
        version = found["clients/python/pyproject.toml" if name == "python" else "clients/node/package.json"]
        if not re.search(rf"^## {re.escape(version)}\b", changelog.read_text(), re.M):
            yield f"clients/{name}/CHANGELOG.md has no section \"## {version}\""


def version_of_project():
    return re.search(r'^version = "([^"]+)"', text("clients/python/pyproject.toml"), re.M).group(1)


def released():
    """The versions that were, the latest last."""
    found = [RELEASED.fullmatch(tag) for tag in git("tag", "--list", "v*").split()]
    return [f"{a}.{b}.{c}" for a, b, c in sorted(tuple(map(int, match.groups())) for match in found if match)]


def frozen():
    """What a release has shipped stays as it was, and there is a way from each release to this version."""
    before = [version for version in released() if version != extension_version()]
    for version in before:
        for name in git("ls-tree", "-r", "--name-only", f"v{version}", "sql/").split():
            if re.fullmatch(rf"sql/{EXTENSION}--.*\.sql", name) and (not (ROOT / name).exists() or text(name) != git("show", f"v{version}:{name}")):
                yield f"{name} is not what version {version} has shipped"
    if before and not (ROOT / "sql" / f"{EXTENSION}--{before[-1]}--{extension_version()}.sql").exists():
        yield f"there is no sql/{EXTENSION}--{before[-1]}--{extension_version()}.sql"
    if extension_version() in released() and git("rev-parse", f"v{extension_version()}^{{commit}}") != git("rev-parse", "HEAD"):
        yield f"version {extension_version()} was released from another commit"


def clean():
    if git("status", "--porcelain"):
        yield "there are changes that are not committed"


def validator():
    """PGXN's own, built once."""
    home = cache_dir() / f"pgxn_meta-{PGXN_META}"
    with locked(cache_dir()):
        if not (home / "bin" / "pgxn_meta").exists():
            env = {name: value for name, value in os.environ.items() if name != "CARGO_TARGET_DIR"}
            run(["cargo", "install", "pgxn_meta", "--version", PGXN_META, "--locked", "--debug", "--root", home], env=env)
    return home / "bin" / "pgxn_meta"


def packages():
    """They are made, lintian and PGXN accept them, and the suite installs them, runs the tour, replaces and removes them."""
    run([sys.executable, ROOT / "tools" / "pack.py"])
    said = debian.lintian(sorted(pack.directory().glob("*.deb")))
    if said:
        yield f"lintian says:\n{said}"
    scratch = pack.directory() / "source"
    archive, = pack.directory().glob("*.zip")
    with zipfile.ZipFile(archive) as source:
        source.extractall(str(scratch))
    tree, = scratch.iterdir()
    done = subprocess.run([str(validator()), str(tree / "META.json")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    if done.returncode != 0:
        yield f"META.json: {done.stdout.strip()}"
    pg_config = main_prefix(MAIN_MAJOR) / "bin" / "pg_config"
    # Not `make`, whose private servers would be another checkout's.
    run(["cargo", "build", "--lib", "--release", "--locked", "--no-default-features", "--features", f"pg{MAIN_MAJOR}"], cwd=str(tree),
        env={**build_env(pg_config), "CARGO_TARGET_DIR": str(target_dir() / "source")})
    shutil.rmtree(str(scratch))
    suite = subprocess.run([str(interpreter("test")), "-m", "pytest", "tests"], cwd=str(ROOT),
                           env={**os.environ, "ONLY": "packages", "MAJORS": " ".join(MAJORS), "ALL_MAJORS": "packages"})
    if suite.returncode != 0:
        yield "the suite of the packages failed"


CHECKS = (("the version is the same everywhere", versions), ("the clients go with it", clients), ("what was released stays as it was", frozen),
          ("all is committed", clean), ("the packages can be installed", packages))


def main():
    wrong = []
    for title, check in CHECKS:
        with step(title):
            for found in check():
                say(f"    {found}")
                wrong.append(found)
    if wrong:
        raise Failure(f"version {extension_version()} cannot be released:\n" + "\n".join(wrong))
    say(f"\nversion {extension_version()} can be released: docs/releasing.md says how")


if __name__ == "__main__":
    run_main(main)
