"""`in_venv.py NAME ARGUMENT...`: runs python ARGUMENT... with the packages of requirements/NAME.txt, and without any other.

They are in a private virtual environment in the cache. Debian's python3 makes one also where python3-venv is not installed, as long as
pip need not be put into it: the system's pip fills it from outside.
"""

import os
import shutil
import subprocess
import sys
import venv

from common import Failure, cache_dir, locked, run_main, step
from fetch import pinned, pip


def interpreter(name):
    """The path of the environment's python; makes the environment once for each Python and list of requirements."""
    requirements, directory = pinned(name, sys.version, sys.base_prefix)
    python, complete = directory / "bin" / "python", directory / "complete"
    if not complete.exists():
        with locked(cache_dir()):
            if not complete.exists():
                with step(f"installing the Python packages of tools/requirements/{requirements.name} into {directory}"):
                    # Its programs hold its path, so it is made in its place.
                    shutil.rmtree(str(directory), ignore_errors=True)
                    venv.create(str(directory), with_pip=False, symlinks=True)
                    install(python, requirements)
                    complete.touch()
    return python


def install(python, requirements):
    done = subprocess.run([*pip(), "--python", str(python), "install", "-q", "--no-deps", "--require-hashes", "--disable-pip-version-check",
                           "-r", str(requirements)],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    if done.returncode != 0:
        raise Failure(f"could not install {requirements} (it takes pip 22.3 or newer):\n{done.stdout}".rstrip())


def main():
    python = str(interpreter(sys.argv[1]))
    os.execv(python, [python, *sys.argv[2:]])


if __name__ == "__main__":
    run_main(main)
