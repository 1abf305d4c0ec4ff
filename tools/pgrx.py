"""cargo-pgrx, for `cargo pgrx test`: the pinned version, and the settings with which it uses the private Postgres builds.

`pgrx.py` prints the settings for a shell (`make env`).
"""

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from build import check_rust, clang_settings
from common import MAJORS, cache_dir, checkout_dir, locked, run, run_main, say, step
from postgres import pgrx_prefix

PGRX = "0.18.1"


def is_pinned(program):
    try:
        done = subprocess.run([program, "pgrx", "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
                              universal_newlines=True)
    except OSError:
        return False
    return done.returncode == 0 and done.stdout.split()[-1:] == [PGRX]


def cargo_pgrx():
    """The path of cargo-pgrx: one of the pinned version on PATH, else our own, built once."""
    found = shutil.which("cargo-pgrx")
    if found and is_pinned(found):
        return Path(found)
    root = cache_dir() / f"cargo-pgrx-{PGRX}"
    program = root / "bin" / "cargo-pgrx"
    if not program.exists():
        with locked(cache_dir()):
            if not program.exists():
                with step(f"building cargo-pgrx {PGRX} (once; about 3 minutes)"):
                    env = {**{k: v for k, v in os.environ.items() if k != "CARGO_TARGET_DIR"}, "CARGO_PROFILE_DEV_DEBUG": "false"}
                    # Without default features: they ask for OpenSSL's headers, to download Postgres sources that we never do.
                    run(["cargo", "install", "cargo-pgrx", "--version", PGRX, "--locked", "--debug", "--no-default-features", "--root", root], env=env)
    return program


def home():
    """A PGRX_HOME that names our Postgres builds. Written only when it changes: bindings are made anew otherwise."""
    directory = checkout_dir() / "pgrx"
    directory.mkdir(exist_ok=True)
    config = directory / "config.toml"
    # pgrx asks every pg_config in the file, whichever it builds for.
    text = "\n".join(["[configs]", *(f"pg{major} = '{pgrx_prefix(major) / 'bin' / 'pg_config'}'" for major in MAJORS), ""])
    if not config.exists() or config.read_text() != text:
        config.write_text(text)
    return directory


def settings():
    """What is set on top of the caller's environment."""
    check_rust()
    return {"PGRX_HOME": str(home()), "PGRX_BUILD_FLAGS": "--locked", **clang_settings(),
            "PATH": f"{cargo_pgrx().parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


def main():
    # What building prints is for the reader; stdout is for the shell that evaluates it.
    with contextlib.redirect_stdout(sys.stderr):
        found = settings()
    for name, value in found.items():
        if name not in ("PATH", "PGRX_BUILD_FLAGS"):
            say(f"export {name}={shlex.quote(value)}")
    say(f'export PATH={shlex.quote(str(cargo_pgrx().parent))}:"$PATH"')


if __name__ == "__main__":
    run_main(main)
