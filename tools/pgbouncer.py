"""A PgBouncer that keeps prepared statements over transactions, for the suite that goes through one.

Debian 12 has one that is too old (1.21 was the first). So this takes the one of the next release."""

import os
from pathlib import Path

import debian

RELEASE = "trixie"
PACKAGES = ("pgbouncer", "libaudit1", "libc6", "libcap-ng0", "libcap2", "libcares2", "libevent-2.1-7t64", "libpam0g", "libssl3t64",
            "libsystemd0", "libzstd1", "zlib1g")
OTHERWISE = "Name a PgBouncer of version 1.21 or newer yourself: PGBOUNCER=/path/to/pgbouncer make test"


def pgbouncer():
    """The path of the program."""
    given = os.environ.get("PGBOUNCER")
    return Path(given) if given else debian.program("PgBouncer", RELEASE, "usr/sbin/pgbouncer", PACKAGES, 17, OTHERWISE)
