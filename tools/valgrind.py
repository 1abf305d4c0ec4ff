"""Callgrind, which counts the instructions of a program: the system's, else Debian's, from the cache."""

import os
import platform
import shutil

import debian

RELEASE = "trixie"
# As valgrind spells them.
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def callgrind():
    """(command, environment); the program and its arguments follow."""
    if shutil.which("valgrind"):
        return ["valgrind", "--tool=callgrind"], dict(os.environ)
    tools = debian.package_root(RELEASE, "valgrind", 15) / "usr" / "libexec" / "valgrind"
    machine = platform.machine()
    # The tool itself, which needs no library; the launcher would look for it where Debian installs it, and is asked for by name only where
    # one program starts another.
    return ([str(tools / f"callgrind-{MACHINES.get(machine, machine)}-linux")],
            {**os.environ, "VALGRIND_LIB": str(tools), "VALGRIND_LAUNCHER": str(tools)})
