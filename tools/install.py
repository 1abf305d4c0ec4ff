"""`make install PG_CONFIG=...`: a release build into a Postgres of your own."""

import os
import shutil
import subprocess
import sys

from common import EXTENSION, Failure, run_main, say
from stage import find_pg_config, is_library, stage, staged_files


def writable(path):
    """Whether we may create this file: the nearest directory that exists decides."""
    directory = os.path.dirname(path)
    while not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    return os.access(directory, os.W_OK)


def main():
    pg_config = find_pg_config(sys.argv[1] if len(sys.argv) > 1 else "")
    destdir = sys.argv[2] if len(sys.argv) > 2 else ""
    files = [(source, os.path.abspath(destdir + target) if destdir else target) for source, target in staged_files(stage(pg_config))]
    prefix = []
    if not all(writable(target) for _, target in files):
        if not shutil.which("sudo"):
            raise Failure(f"you may not write to {os.path.dirname(files[0][1])}: run this as a user who may")
        say("    copying needs root: asking sudo")
        prefix = ["sudo"]
    for source, target in files:
        mode = "755" if is_library(target) else "644"
        if subprocess.run([*prefix, "install", "-D", "-m", mode, str(source), target]).returncode != 0:
            raise Failure(f"could not write {target}")
        say(f"    {target}")
    say(f"installed. In a database, as superuser:\n    CREATE EXTENSION {EXTENSION};")


if __name__ == "__main__":
    run_main(main)
