"""Private Postgres prefixes: per checkout and major, a copy of the untouched build that the extension may be installed into."""

import os
import re
import shutil
import subprocess

from common import Failure, checkout_dir, locked, need
from fetch import postgres_dir

# Which package brings a shared library that the builds expect from the system.
PACKAGES = {"libreadline": "libreadline8", "libgssapi": "libgssapi-krb5-2", "libssl": "libssl3",
            "libcrypto": "libssl3", "libzstd": "libzstd1", "liblz4": "liblz4-1", "libz": "zlib1g"}


def main_prefix(major):
    return prefix(checkout_dir() / f"pg{major}", major)


def pgrx_prefix(major):
    """For `cargo pgrx`, which installs the library with its test functions, so that the other one stays what users get."""
    return prefix(checkout_dir() / f"pg{major}-test", major)


def prefix(path, major):
    """Makes it if it is not there."""
    if not path.is_dir():
        build = postgres_dir(major)
        with locked(checkout_dir()):
            if not path.is_dir():
                scratch = path.with_name(path.name + ".part")
                shutil.rmtree(str(scratch), ignore_errors=True)
                copy_tree(build, scratch)
                check_libraries(scratch)
                scratch.rename(path)
    return path


def copy_tree(source, target):
    """Hard links where possible: an install adds files and never writes into one of Postgres' own."""
    shutil.copytree(str(source), str(target), symlinks=True, copy_function=link_or_copy, dirs_exist_ok=True)


def link_or_copy(source, target):
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def check_libraries(path):
    """Names the packages of shared libraries that are missing, before the first program fails for want of one."""
    missing = missing_libraries(path)
    if XML in missing:
        build_xml(path / "lib")
        missing = missing_libraries(path)
    if missing:
        packages = sorted({PACKAGES.get(re.split(r"[^a-z0-9]", name)[0], name) for name in missing})
        raise Failure(f"shared libraries are missing: {', '.join(sorted(missing))}. Install them with:\n"
                      f"    apt-get install {' '.join(packages)}")


def missing_libraries(path):
    ldd = need("ldd", "it comes with the C library", "apt-get install libc-bin")
    missing = set()
    for program in ("postgres", "psql"):
        done = subprocess.run([ldd, str(path / "bin" / program)], stdout=subprocess.PIPE, universal_newlines=True)
        missing |= {line.split()[0] for line in done.stdout.splitlines() if "not found" in line}
    return missing


# The builds do not start without libxml2, and nothing here uses XML. Where a system has none this stands in for it: what Postgres binds
# when it starts. The other functions it would bind when it calls them, which fails cleanly.
XML = "libxml2.so.2"
XML_SOURCE = r"""
#include <stdlib.h>
struct group { int shorts, longs; const void *short_ranges, *long_ranges; };
const struct group xmlIsExtenderGroup, xmlIsDigitGroup, xmlIsCombiningGroup, xmlIsBaseCharGroup;
void (*xmlFree)(void *) = free;
void xmlFreeNode(void *node) { abort(); }
void xmlFreeDoc(void *document) { abort(); }
"""
XML_VERSIONS = """
LIBXML2_2.4.30 { xmlFree; xmlFreeNode; xmlFreeDoc; };
LIBXML2_2.6.0 { xmlIsExtenderGroup; xmlIsDigitGroup; xmlIsCombiningGroup; xmlIsBaseCharGroup; };
LIBXML2_2.6.5 { };
LIBXML2_2.6.8 { };
LIBXML2_2.6.23 { };
"""


def build_xml(directory):
    """Compiles the stand-in into a directory where the private Postgres looks first."""
    compiler = need("cc", "Rust links with it", "apt-get install gcc libc6-dev")
    script = directory / "libxml2.versions"
    script.write_text(XML_VERSIONS)
    done = subprocess.run([compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(directory / XML), f"-Wl,-soname,{XML}",
                           f"-Wl,--version-script={script}"], input=XML_SOURCE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          universal_newlines=True)
    script.unlink()
    if done.returncode != 0:
        raise Failure(f"libxml2 is missing, and so is a working C compiler to stand in for it:\n{done.stdout}\n"
                      "Install it with:\n    apt-get install libxml2")
