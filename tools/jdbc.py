"""A Java, and for it the driver of Postgres and a reader of JSON: what the system lacks comes from Debian, into the cache."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from debian import Apt, unpacked

OLDEST = 17
# A release of Debian whose C library is no newer than the system's.
JRE = ("bookworm", ("openjdk-17-jre-headless",), 45)
JARS = ("trixie", ("libpostgresql-jdbc-java", "libgoogle-gson-java"), 2)


def java():
    """The system's if it is new enough to run a file of source, or else Debian's."""
    found = shutil.which("java")
    if found and version(found) >= OLDEST:
        return Path(found)
    return next(fetched("java", *JRE).glob("usr/lib/jvm/*/bin/java"))


def version(program):
    said = subprocess.run([program, "-version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True).stdout
    number = re.search(r'version "(\d+)', said)
    return int(number.group(1)) if number else 0


def class_path():
    home = fetched("jdbc", *JARS) / "usr" / "share" / "java"
    return os.pathsep.join(str(home / jar) for jar in ("postgresql.jar", "gson.jar"))


def fetched(title, release, packages, megabytes):
    def fill(directory):
        Apt(suite=release).programs(packages, directory)
        for link in directory.rglob("*"):
            if link.is_symlink():
                keep_within(directory, link)
    return unpacked(f"{title}-{release}", f"{', '.join(packages)} of Debian's {release}", megabytes, fill, packages)


def keep_within(root, link):
    """Debian's own links are absolute: to where a package would be installed."""
    target = os.readlink(link)
    if target.startswith("/"):
        link.unlink()
        link.symlink_to(os.path.relpath(f"{root}{target}", link.parent))
