"""A PgBouncer that keeps prepared statements over transactions, for the suite that goes through one.

Debian 12 has one that is too old (1.21 was the first). So this takes the one of the next release, with the libraries that it was
built for, the C library among them: it is unpacked into the cache, and nothing is installed."""

import os
import tempfile
from pathlib import Path

from common import Failure, cache_dir, locked, output_of, step
from debian import Apt

RELEASE = "trixie"
PACKAGES = ("pgbouncer", "libaudit1", "libc6", "libcap-ng0", "libcap2", "libcares2", "libevent-2.1-7t64", "libpam0g", "libssl3t64",
            "libsystemd0", "libzstd1", "zlib1g")
# With the loader that belongs to the C library beside it: the system's own may be older.
SCRIPT = """#!/bin/sh
here=$(dirname "$0")
lib=$here/usr/lib/x86_64-linux-gnu
exec "$lib/ld-linux-x86-64.so.2" --library-path "$lib" "$here/usr/sbin/pgbouncer" "$@"
"""


def pgbouncer():
    """The path of the program."""
    given = os.environ.get("PGBOUNCER")
    if given:
        return Path(given)
    home = cache_dir() / f"pgbouncer-{RELEASE}"
    if not home.is_dir():
        with locked(cache_dir()):
            if not home.is_dir():
                with step(f"downloading the PgBouncer of Debian's {RELEASE} (about 17 MB)"):
                    fetch(home)
    return home / "pgbouncer"


def fetch(home):
    with tempfile.TemporaryDirectory(dir=str(cache_dir()), prefix="download-") as scratch:
        unpacked = Path(scratch) / home.name
        unpacked.mkdir()
        try:
            Apt(suite=RELEASE).programs(PACKAGES, unpacked)
        except Failure as failure:
            raise Failure(f"{failure}\nName a PgBouncer of version 1.21 or newer yourself: PGBOUNCER=/path/to/pgbouncer make test") from failure
        script = unpacked / "pgbouncer"
        script.write_text(SCRIPT)
        script.chmod(0o755)
        output_of([script, "--version"])
        unpacked.rename(home)  # complete or absent, never half
