"""`make install` puts a release build into a Postgres of your own; `make package` makes a tarball of the same files, META.json and the texts.

`package.py install PG_CONFIG DESTDIR`, `package.py package PG_CONFIG`; empty words stand for what was not given.
"""

import os
import platform
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from build import built, extension_version, major_of
from common import EXTENSION, MAIN_MAJOR, MAJORS, ROOT, Failure, output_of, run_main, say, target_dir
from postgres import main_prefix


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


def writable(path):
    """Whether we may create this file: the nearest directory that exists decides."""
    directory = os.path.dirname(path)
    while not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    return os.access(directory, os.W_OK)


def install(pg_config, destdir):
    files = built(pg_config)
    into = {"lib": output_of([pg_config, "--pkglibdir"]).strip(), "extension": f"{output_of([pg_config, '--sharedir']).strip()}/extension"}
    copies = [(source, os.path.abspath(f"{destdir}{into[kind]}/{source.name}")) for kind in into for source in sorted((files / kind).iterdir())]
    sudo = []
    if not all(writable(target) for _, target in copies):
        if not shutil.which("sudo"):
            raise Failure(f"you may not write to {os.path.dirname(copies[0][1])}: run this as a user who may")
        say("    copying needs root: asking sudo")
        sudo = ["sudo"]
    for source, target in copies:
        mode = "755" if source.parent.name == "lib" else "644"
        if subprocess.run([*sudo, "install", "-D", "-m", mode, str(source), target]).returncode != 0:
            raise Failure(f"could not write {target}")
        say(f"    {target}")
    say(f"installed. In a database, as superuser:\n    CREATE EXTENSION {EXTENSION};")


def as_root(member):
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def package(pg_config):
    version, files = extension_version(), built(pg_config)
    name = f"{EXTENSION}-{version}-pg{major_of(pg_config)}-{platform.system().lower()}-{platform.machine()}"
    out = target_dir() / "package" / name
    shutil.rmtree(str(out), ignore_errors=True)
    # Not the absolute paths of the Postgres at hand: lib/ goes to pkglibdir, extension/ to sharedir/extension.
    for kind in ("lib", "extension"):
        shutil.copytree(str(files / kind), str(out / kind))
    (out / "META.json").write_text((ROOT / "META.json.in").read_text().replace("@CARGO_VERSION@", version))
    for text in ("LICENSE", "README.md", "CHANGELOG.md"):
        shutil.copy2(str(ROOT / text), str(out / text))
    archive = out.with_name(name + ".tar.gz")
    with tarfile.open(str(archive), "w:gz") as tar:
        tar.add(str(out), arcname=name, filter=as_root)
    say(f"{archive}\nholds, for Postgres {major_of(pg_config)}:")
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        say(f"    {path.relative_to(out)}")
    say("to install: cp lib/* \"$(pg_config --pkglibdir)\" && cp extension/* \"$(pg_config --sharedir)/extension\"")


def main():
    what, given, destdir = (*sys.argv[1:], "", "")[:3]
    if what == "install":
        install(find_pg_config(given), destdir)
    else:
        package(find_pg_config(given) if given else main_prefix(MAIN_MAJOR) / "bin" / "pg_config")


if __name__ == "__main__":
    run_main(main)
