"""Private Postgres prefixes: per checkout and major, a copy of the untouched build that the extension may be installed into."""

import os
import re
import shutil
import subprocess

import xml_stub
from common import MAJORS, Failure, checkout_dir, locked, need
from fetch import fetch, postgres_dir

# Which package brings a shared library that the builds expect from the system.
PACKAGES = {"libreadline": "libreadline8", "libgssapi": "libgssapi-krb5-2", "libssl": "libssl3",
            "libcrypto": "libssl3", "libzstd": "libzstd1", "liblz4": "liblz4-1", "libz": "zlib1g"}


def main_prefix(major):
    return checkout_dir() / f"pg{major}"


def test_prefix(major):
    """Holds the build with the `pg_test` feature, so that the other one stays what users get."""
    return checkout_dir() / f"pg{major}-test"


def link_or_copy(source, target):
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def make_prefixes():
    """Makes sure that all of them are there."""
    wanted = [(kind(major), major) for major in MAJORS for kind in (main_prefix, test_prefix)]
    if not all(prefix.is_dir() for prefix, _ in wanted):
        fetch()
        with locked(checkout_dir()):
            for prefix, major in wanted:
                if not prefix.is_dir():
                    make_prefix(prefix, major)


def make_prefix(prefix, major):
    """Hard links where possible: an install adds files and never writes into one of Postgres' own."""
    scratch = prefix.with_name(prefix.name + ".part")
    shutil.rmtree(str(scratch), ignore_errors=True)
    shutil.copytree(str(postgres_dir(major)), str(scratch), symlinks=True, copy_function=link_or_copy)
    check_libraries(scratch)
    scratch.rename(prefix)


def check_libraries(prefix):
    """Names the packages of shared libraries that are missing, before the first program fails for want of one."""
    missing = missing_libraries(prefix)
    if xml_stub.NAME in missing:
        xml_stub.build(prefix / "lib")
        missing = missing_libraries(prefix)
    if missing:
        packages = sorted({PACKAGES.get(re.split(r"[^a-z0-9]", name)[0], name) for name in missing})
        raise Failure(f"shared libraries are missing: {', '.join(sorted(missing))}. Install them with:\n"
                      f"    apt-get install {' '.join(packages)}")


def missing_libraries(prefix):
    ldd = need("ldd", "it comes with the C library", "apt-get install libc-bin")
    missing = set()
    for program in ("postgres", "psql"):
        done = subprocess.run([ldd, str(prefix / "bin" / program)], stdout=subprocess.PIPE, universal_newlines=True)
        missing |= {line.split()[0] for line in done.stdout.splitlines() if "not found" in line}
    return missing
