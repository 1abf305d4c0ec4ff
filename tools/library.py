"""A shared library and its debug symbols, apart."""

import re
import shutil

from common import Failure, need, output_of

BINUTILS = "apt-get install binutils"
# What Debian strips, too: https://www.debian.org/doc/debian-policy/ch-files.html#shared-libraries
STRIP = ("--strip-unneeded", "--remove-section=.comment", "--remove-section=.note")


def objcopy(*arguments):
    output_of([need("objcopy", "it takes the debug symbols out of the library", BINUTILS), *arguments])


def strip(library):
    """Takes the debug symbols out of a file that is ours alone."""
    objcopy(*STRIP, library)


def split(library, stripped, debug):
    """Writes the library without its debug symbols, and those alone. gdb puts them together by the build id, which both have."""
    objcopy("--only-keep-debug", "--compress-debug-sections=zlib", library, debug)
    shutil.copyfile(str(library), str(stripped))
    strip(stripped)


def readelf(option, library):
    return output_of([need("readelf", "it reads the build id of the library", BINUTILS), "--wide", option, library])


def build_id(library):
    found = re.search(r"Build ID: ([0-9a-f]{40})", readelf("--notes", library))
    if not found:
        raise Failure(f"{library} has no build id: the linker did not write one, so nothing would find its debug symbols")
    return found.group(1)


def glibc(library):
    """The oldest C library that has all functions it calls."""
    versions = re.findall(r"\bGLIBC_(\d+)\.(\d+)", readelf("--version-info", library))
    if not versions:
        raise Failure(f"{library} needs no version of the GNU C library: it is of another system")
    return "{}.{}".format(*max((int(major), int(minor)) for major, minor in versions))
