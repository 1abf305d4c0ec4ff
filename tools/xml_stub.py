"""Stands in for libxml2 where a system has none: the pinned Postgres builds do not start without it, and nothing here uses XML."""

import subprocess

from common import Failure, need

NAME = "libxml2.so.2"

# What Postgres binds when it starts; the other functions it would bind when it calls them, which fails cleanly.
SOURCE = r"""
#include <stdlib.h>
struct group { int shorts, longs; const void *short_ranges, *long_ranges; };
const struct group xmlIsExtenderGroup, xmlIsDigitGroup, xmlIsCombiningGroup, xmlIsBaseCharGroup;
void (*xmlFree)(void *) = free;
void xmlFreeNode(void *node) { abort(); }
void xmlFreeDoc(void *document) { abort(); }
"""
VERSIONS = """
LIBXML2_2.4.30 { xmlFree; xmlFreeNode; xmlFreeDoc; };
LIBXML2_2.6.0 { xmlIsExtenderGroup; xmlIsDigitGroup; xmlIsCombiningGroup; xmlIsBaseCharGroup; };
LIBXML2_2.6.5 { };
LIBXML2_2.6.8 { };
LIBXML2_2.6.23 { };
"""


def build(directory):
    """Compiles the stand-in into a directory where the private Postgres looks first."""
    compiler = need("cc", "Rust links with it", "apt-get install gcc libc6-dev")
    script = directory / "libxml2.versions"
    script.write_text(VERSIONS)
    done = subprocess.run([compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(directory / NAME), f"-Wl,-soname,{NAME}",
                           f"-Wl,--version-script={script}"], input=SOURCE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          universal_newlines=True)
    script.unlink()
    if done.returncode != 0:
        raise Failure(f"libxml2 is missing, and so is a working C compiler to stand in for it:\n{done.stdout}\n"
                      "Install it with:\n    apt-get install libxml2")
