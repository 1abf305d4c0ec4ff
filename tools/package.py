"""`make install` puts a release build into a Postgres of your own; `make package` makes a tarball of the same files, with the script that
installs them. `make all` only builds.

`package.py install PG_CONFIG DESTDIR`, `package.py package PG_CONFIG`, `package.py all PG_CONFIG`; empty words stand for what was not given.
"""

import gzip
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from build import built, extension_version, major_of
from common import EXTENSION, MAIN_MAJOR, MAJORS, ROOT, Failure, output_of, run_main, say, target_dir
from library import strip
from postgres import main_prefix

PACKAGING = ROOT / "packaging"


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


def lay(files, major, out):
    """What a user installs: what `built` has made, and the script that puts it in its place."""
    shutil.rmtree(str(out), ignore_errors=True)
    for kind in ("lib", "extension"):
        shutil.copytree(str(files / kind), str(out / kind))
    (out / "MAJOR").write_text(f"{major}\n")
    shutil.copy2(str(PACKAGING / "install.sh"), str(out / "install.sh"))
    return out


def install(pg_config, destdir):
    out = lay(built(pg_config), major_of(pg_config), target_dir() / "package" / f"install-{major_of(pg_config)}")
    targets = [f"{destdir}{output_of([pg_config, '--pkglibdir']).strip()}/x", f"{destdir}{output_of([pg_config, '--sharedir']).strip()}/extension/x"]
    sudo = []
    if not all(writable(target) for target in targets):
        if not shutil.which("sudo"):
            raise Failure(f"you may not write to {os.path.dirname(targets[0])}: run this as a user who may")
        say("    copying needs root: asking sudo")
        sudo = ["sudo"]
    if subprocess.run([*sudo, "env", f"DESTDIR={destdir}", "sh", str(out / "install.sh"), str(pg_config)]).returncode != 0:
        raise Failure("could not install")
    say(f"installed. In a database, as superuser:\n    CREATE EXTENSION {EXTENSION};\n"
        f"A server that preloads the library goes on with the one before until it is restarted.")


def moment():
    """When the source was last changed, as all that is packed is dated: packed again, it is the same to the byte."""
    return int(os.environ.get("SOURCE_DATE_EPOCH") or (ROOT / "CHANGELOG.md").stat().st_mtime)


def as_root(member):
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mtime = moment()
    return member


def package(pg_config):
    """The path of a tarball, without the absolute paths of the Postgres at hand."""
    version, major = extension_version(), major_of(pg_config)
    name = f"{EXTENSION}-{version}-pg{major}-{platform.system().lower()}-{platform.machine()}"
    out = lay(built(pg_config), major, target_dir() / "package" / name)
    strip(out / "lib" / f"{EXTENSION}.so")
    for text in ("LICENSE", "README.md", "CHANGELOG.md"):
        shutil.copy2(str(ROOT / text), str(out / text))
    for script in ("plproxy.sql", "citus.sql"):
        shutil.copy2(str(PACKAGING / script), str(out / script))
    archive = out.with_name(name + ".tar.gz")
    with gzip.GzipFile(str(archive), "wb", mtime=moment()) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(str(out), arcname=name, filter=as_root)
    return archive


def tell(archive, major):
    say(f"{archive}\nholds, for Postgres {major}:")
    with tarfile.open(str(archive)) as tar:
        for member in sorted(tar.getmembers(), key=lambda member: member.name):
            if member.isfile():
                say(f"    {member.name.partition('/')[2]}")
    say("to install: unpack it and run ./install.sh /path/to/pg_config, also while a server runs that has the library loaded")


def main():
    what, given, destdir = (*sys.argv[1:], "", "")[:3]
    if what == "package":
        pg_config = find_pg_config(given) if given else main_prefix(MAIN_MAJOR) / "bin" / "pg_config"
        tell(package(pg_config), major_of(pg_config))
    elif what == "install":
        install(find_pg_config(given), destdir)
    else:
        built(find_pg_config(given))


if __name__ == "__main__":
    run_main(main)
