"""A Postgres with assertions, built from Debian's sources into the cache: it checks itself at every step, and overwrites what is freed."""

import os
import shutil
import tarfile
import tempfile
from pathlib import Path

from common import MAIN_MAJOR, Failure, cache_dir, checkout_dir, locked, need, run, step
from debian import Apt
from postgres import copy_tree

SUITE = "trixie"  # Debian 13, the release that has Postgres 17
# Not part of the tarball, and perhaps not of the machine: what makes its scanners and parsers.
GENERATORS = ("bison", "flex", "m4")
# What is not there cannot be missing on a machine; the suites use none of it.
OPTIONS = ("--enable-cassert", "--enable-debug", "--disable-rpath", "--without-icu", "--without-readline", "--without-zlib")
# Without optimisation it takes twice as long to run; with all of it, to build.
CFLAGS = "-O1 -g1 -fno-omit-frame-pointer"


def cassert_dir():
    """The untouched build; nothing is ever installed into it."""
    return cache_dir() / f"postgres-{MAIN_MAJOR}-cassert"


def cassert_prefix():
    """This checkout's copy, which the extension is installed into."""
    prefix = checkout_dir() / f"pg{MAIN_MAJOR}-cassert"
    if not prefix.is_dir():
        build()
        with locked(checkout_dir()):
            part = prefix.with_name(prefix.name + ".part")
            shutil.rmtree(str(part), ignore_errors=True)
            copy_tree(cassert_dir(), part)
            part.rename(prefix)
    return prefix


def build():
    """Builds it once. PG_SOURCE names a tarball to take instead of Debian's."""
    if cassert_dir().is_dir():
        return
    need("perl", "Postgres' build needs it", "apt-get install perl")
    need("make", "Postgres is built with it", "apt-get install make")
    with locked(cache_dir()), tempfile.TemporaryDirectory(dir=str(cache_dir()), prefix="cassert-") as scratch:
        if cassert_dir().is_dir():
            return
        scratch = Path(scratch)
        with step(f"fetching the sources of Postgres {MAIN_MAJOR}"):
            source = unpack(find_source(scratch), scratch)
            env = {**os.environ, **generators(scratch)}
        with step("building it with assertions (once; about 5 minutes)"):
            out = scratch / "out"
            compile_postgres(source, out, env)
            (out / cassert_dir().name).rename(cassert_dir())


def find_source(scratch):
    given = os.environ.get("PG_SOURCE")
    if given:
        if not Path(given).is_file():
            raise Failure(f"PG_SOURCE={given}: there is no such file")
        return Path(given).absolute()
    try:
        return Apt(SUITE).source(f"postgresql-{MAIN_MAJOR}", scratch)
    except Failure as failure:
        raise Failure(f"{failure}\nName a tarball of Postgres' sources yourself: PG_SOURCE=/path/to/postgresql-17.tar.bz2") from failure


def unpack(tarball, scratch):
    with tarfile.open(str(tarball)) as tar:
        tar.extractall(str(scratch), **({"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}))
    found = [path.parent for path in scratch.glob("*/configure")]
    if len(found) != 1:
        raise Failure(f"{tarball} holds no source of Postgres")
    return found[0]


def generators(scratch):
    """Settings with which the generators that the machine lacks are found where they were unpacked."""
    missing = [program for program in GENERATORS if shutil.which(program) is None]
    if not missing:
        return {}
    tools = scratch / "tools"
    # All of them: each wants the others where it was built for.
    Apt().programs(GENERATORS, tools)
    binaries = tools / "usr" / "bin"
    return {"PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', os.defpath)}", "M4": str(binaries / "m4"),
            "BISON_PKGDATADIR": str(tools / "usr" / "share" / "bison")}


def compile_postgres(source, out, env):
    """The prefix is moved to its place afterwards: the programs find their files from where they are themselves."""
    prefix = out / cassert_dir().name
    run(["./configure", "-q", f"--prefix={prefix}", *OPTIONS, f"CFLAGS={CFLAGS}", r"LDFLAGS=-Wl,-rpath,'$$ORIGIN/../lib'"], env=env, cwd=str(source))
    jobs = f"-j{os.cpu_count() or 2}"
    for directory in (".", "contrib/amcheck"):
        run(["make", "-s", jobs, "-C", directory, "install"], env=env, cwd=str(source))
    for needed in ("lib/pgxs/src/test/regress/pg_regress", "lib/pgxs/src/test/isolation/pg_isolation_regress"):
        if not (prefix / needed).exists():
            raise Failure(f"the build has not installed {needed}")
