"""Builds the files to install for one Postgres into a directory: what `make install` copies and `make package` packs."""

import json
import os
import re
import shutil
from pathlib import Path

from build import inputs_hash
from cargo import run_cargo
from common import EXTENSION, MAIN_MAJOR, MAJORS, ROOT, Failure, locked, checkout_dir, hash_inputs, output_of, step, target_dir
from prefix import main_prefix
from toolchain import cargo_env, cargo_pgrx, foreign_env


def extension_version():
    return re.search(r'^version\s*=\s*"([^"]+)"', (ROOT / "Cargo.toml").read_text(), re.M).group(1)


def private_pg_config():
    return main_prefix(MAIN_MAJOR) / "bin" / "pg_config"


def find_pg_config(given):
    """The pg_config that was named, or the first on PATH; one that can be built against."""
    name = given or "pg_config"
    found = shutil.which(name)
    if not found:
        raise Failure(f"there is no {name}. Name your Postgres' own: make install PG_CONFIG=/path/to/pg_config\n"
                      "On Debian and Ubuntu it comes with: apt-get install postgresql-server-dev-all")
    pg_config = Path(found).absolute()
    major = major_of(pg_config)
    if major not in MAJORS:
        raise Failure(f"{pg_config} is of Postgres {major}; supported are {', '.join(MAJORS)}")
    headers = Path(output_of([pg_config, "--includedir-server"]).strip())
    if not (headers / "postgres.h").exists():
        raise Failure(f"the server's header files are missing ({headers}/postgres.h). Install them with:\n"
                      f"    apt-get install postgresql-server-dev-{major}")
    return pg_config


def major_of(pg_config):
    return re.search(r"(\d+)", output_of([pg_config, "--version"])).group(1)


def stage(pg_config):
    """A directory with the files at the absolute paths that this pg_config wants them at."""
    major = major_of(pg_config)
    private = pg_config == private_pg_config()
    key = hash_inputs([], str(pg_config), output_of([pg_config]))[:12]
    target = target_dir() if private else target_dir() / f"foreign-{key}"
    out = target_dir() / "stage" / f"pg{major}-{key}"
    stamp = out.with_name(out.name + ".stamp")
    wanted = inputs_hash(major)
    if out.is_dir() and stamp.exists() and json.loads(stamp.read_text()) == wanted:
        return out
    env = cargo_env() if private else foreign_env(pg_config, target)
    with locked(checkout_dir()), step(f"building {EXTENSION} for Postgres {major} ({pg_config})"):
        shutil.rmtree(str(out), ignore_errors=True)
        out.mkdir(parents=True)
        run_cargo([cargo_pgrx(), "pgrx", "package", "--no-default-features", "--features", f"pg{major}", "--pg-config", pg_config,
                   "--out-dir", out], env, f"package-pg{major}")
        stamp.write_text(json.dumps(wanted))
    return out


def staged_files(directory):
    """(file, the absolute path it is meant for)"""
    return [(path, "/" + str(path.relative_to(directory))) for path in sorted(directory.rglob("*")) if path.is_file()]


def is_library(path):
    return os.path.splitext(str(path))[1] in (".so", ".dylib")
