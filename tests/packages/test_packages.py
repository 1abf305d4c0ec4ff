"""The packages: what is in them, and that a server lives through their installation. Debian's own Postgres 15, and the pinned 17, each in a
root of its own, in which dpkg installs, replaces and removes them."""

import functools
import json
import os
import shutil
import subprocess
import tarfile

import pytest

import debian
import logs
import pack
import pgxn
from build import built, extension_version
from common import EXTENSION, MAIN_MAJOR, ROOT, output_of, target_dir
from library import build_id, readelf
from load import Load, running
from package import package
from postgres import main_prefix
from roots import DEBIANS_OWN, Root
from server import PRELOADED
from transcripts import Psql, played

LIMIT = 8 * 1024 * 1024  # bytes of a library without its debug symbols
REPLACEMENTS = 3


@functools.lru_cache(maxsize=None)
def made_for(major):
    """The packages of a major: today's, its debug symbols, and one with another library that takes the place of the first."""
    into = target_dir() / "test-packages" / major
    shutil.rmtree(str(into), ignore_errors=True)
    into.mkdir(parents=True)
    today, symbols = pack.debs(major, into)
    other = into / "other.so"
    shutil.copy2(str(built(main_prefix(major) / "bin" / "pg_config") / "lib" / f"{EXTENSION}.so"), str(other))
    with open(other, "ab") as end:
        end.write(b"another library")
    following, _ = pack.debs(major, into, other, "2")
    return {"today": today, "symbols": symbols, "following": following}


@pytest.fixture(scope="module")
def made(major):
    return made_for(major)


@pytest.fixture(scope="module")
def root(major, made):
    """With today's packages installed; `before` is what was there without them."""
    with Root(major) as root:
        root.before = root.files()
        root.dpkg("-i", made["today"], made["symbols"])
        yield root


@pytest.fixture(scope="module")
def server(request, root, major):
    with running(root, PRELOADED, logs.directory() / f"packages-{major}.log") as server:
        request.config.servers.append(server)
        yield server
        request.config.servers.remove(server)


@pytest.fixture(scope="module")
def tarball(major, tmp_path_factory):
    """Unpacked."""
    into = tmp_path_factory.mktemp("tarball")
    with tarfile.open(str(package(main_prefix(major) / "bin" / "pg_config"))) as tar:
        tar.extractall(str(into), **({"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}))
    return next(into.iterdir())


def test_package_holds_what_postgres_looks_for(root, major):
    version = extension_version()
    assert root.files() - root.before == {
        *(f"./usr/{name}" for name in ("lib/debug", "lib/debug/.build-id", "share/lintian", "share/lintian/overrides", "share/doc")
          if f"./usr/{name}" not in root.before),
        f"./usr/lib/debug/.build-id/{build_id(root.library)[:2]}", f"./usr/lib/debug/.build-id/{build_id(root.library)[:2]}/{build_id(root.library)[2:]}.debug",
        *installed_scripts(root, major, version),
        f"./usr/lib/postgresql/{major}/lib/{EXTENSION}.so",
        f"./usr/share/doc/postgresql-{major}-idempotent", f"./usr/share/doc/postgresql-{major}-idempotent-dbgsym",
        *(f"./usr/share/doc/postgresql-{major}-idempotent/{name}" for name in ("changelog.Debian.gz", "changelog.gz", "copyright", "crates.txt.gz", "examples", "examples/citus.sql", "examples/plproxy.sql")),
        f"./usr/share/lintian/overrides/postgresql-{major}-idempotent"}


def installed_scripts(root, major, version):
    scripts = os.path.relpath(str(root.scripts.resolve()), str(root.path))
    return {f"./{scripts}/{EXTENSION}.control", f"./{scripts}/{EXTENSION}--{version}.sql"}


def test_library_is_small_and_its_symbols_are_elsewhere(root):
    assert root.library.stat().st_size < LIMIT
    sections = readelf("--sections", root.library)
    assert ".text" in sections and ".debug_" not in sections and ".symtab" not in sections
    symbols, = (root.path / "usr/lib/debug/.build-id").glob("*/*.debug")
    assert ".debug_line" in readelf("--sections", symbols) and build_id(symbols) == build_id(root.library)


def test_lintian(request):
    """Once for all majors."""
    assert debian.lintian([made_for(major)[kind] for major in request.config.majors_of("packages") for kind in ("today", "symbols")]) == ""


def test_packed_again_they_are_the_same(made, major):
    pg_config = main_prefix(major) / "bin" / "pg_config"
    before = [path.read_bytes() for path in (made["today"], made["symbols"], package(pg_config))]
    assert [path.read_bytes() for path in (*pack.debs(major, made["today"].parent), package(pg_config))] == before


def test_tour(root, server):
    psql = Psql(server)
    psql("CREATE DATABASE tour", "postgres", "-q")
    results = played("README.md", (ROOT / "README.md").read_text(), lambda sql: psql(sql, "tour"))
    assert len(results) > 5
    assert [(title, difference) for good, _, title, difference in results if not good] == []


def test_library_of_another_major_is_refused(root, server, major):
    other = MAIN_MAJOR if major != MAIN_MAJOR else DEBIANS_OWN
    shutil.copyfile(str(built(main_prefix(other) / "bin" / "pg_config") / "lib" / f"{EXTENSION}.so"), str(root.prefix / "lib" / "of_another_major.so"))
    code, _, said = server.psql("LOAD '$libdir/of_another_major'")
    (root.prefix / "lib" / "of_another_major.so").unlink()
    # Postgres compares the majors of what the loader of the system lets through: a function that there is in one major alone ends it before.
    assert code != 0 and ("incompatible library" in said or "could not load library" in said and "undefined symbol" in said), said
    assert server.must("SELECT 1") == "1\n"


def replaced(root, load, replace):
    """Runs what puts another file in the library's place, under load."""
    load.goes_on()
    before = root.library.stat()
    replace()
    after = root.library.stat()
    assert (before.st_ino, before.st_size) != (after.st_ino, after.st_size)
    load.goes_on()


def replaced_under_load(root, made, tarball, settings, log):
    """No call fails and no process crashes, neither those that have the library loaded nor those that are about to load it."""
    with running(root, settings, log) as server:
        unloaded = server.must("SELECT count(*) FROM idempotent_doctor() WHERE problem = 'not_preloaded'")
        assert unloaded == ("0\n" if settings else "1\n")
        with Load(server, reconnect=not settings) as load:
            for _ in range(REPLACEMENTS):
                replaced(root, load, lambda: root.dpkg("-i", made["following"]))
                replaced(root, load, lambda: root.dpkg("-i", "--force-downgrade", made["today"]))
            # Debian has pg_config in a package for developers.
            if (root.prefix / "bin" / "pg_config").exists():
                for _ in range(REPLACEMENTS):
                    replaced(root, load, lambda: output_of(["sh", tarball / "install.sh", root.prefix / "bin" / "pg_config"]))
        server.shut_down()
        server.launch()
        assert server.must("SELECT version = schema_version FROM idempotent.health") == "t\n"
        assert int(server.must("SELECT count(*) FROM idempotent.record WHERE operation = 'load'")) > 0


def test_replaced_beneath_a_server_that_preloads_it(root, made, tarball, major):
    replaced_under_load(root, made, tarball, PRELOADED, logs.directory() / f"packages-{major}-preloaded.log")


def test_replaced_while_sessions_load_it(root, made, tarball, major):
    replaced_under_load(root, made, tarball, {}, logs.directory() / f"packages-{major}-loaded.log")


def test_tarball_is_for_one_major(root, tarball, tmp_path):
    pg_config = tmp_path / "pg_config"
    pg_config.write_text("#!/bin/sh\n[ \"$1\" = --version ] && echo PostgreSQL 14.1\n")
    pg_config.chmod(0o755)
    done = subprocess.run(["sh", str(tarball / "install.sh"), str(pg_config)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    assert done.returncode == 1 and "is of Postgres 14" in done.stderr and done.stdout == ""


def test_source_for_pgxn(tmp_path, major):
    text, names = pgxn.meta(extension_version()), pgxn.tracked()
    assert pgxn.flaws(text, names) == []
    assert {"Makefile", "Cargo.toml", "Cargo.lock", "sql/10_tables.sql", "src/lib.rs", "packaging/install.sh"} <= set(names)
    for field, value in (("name", None), ("version", "1.0"), ("provides", {EXTENSION: {"file": "gone.sql", "version": extension_version()}}),
                         ("licence", "postgresql")):
        broken = {**json.loads(text), field: value}
        if value is None:
            del broken[field]
        assert pgxn.flaws(json.dumps(broken), names), field


def test_removal_leaves_nothing_behind(root, server, major):
    """The last, as it takes away what the others stand on."""
    server.must(f"DROP EXTENSION {EXTENSION} CASCADE")
    root.dpkg("-P", f"postgresql-{major}-idempotent", f"postgresql-{major}-idempotent-dbgsym")
    assert root.files() - root.before == set() and root.before - root.files() == set()


from afterwards import test_server_logs_hold_nothing_harmful  # noqa: E402, F401 (the last)
