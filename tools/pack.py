"""`make packages`: for each major a Debian package, its debug symbols and a tarball, and the source distribution for PGXN.

`pack.py [MAJOR...]`; all majors if none is named. They end up in target/packages.
"""

import gzip
import hashlib
import os
import platform
import re
import shutil
import string
import sys
import time
from email.utils import formatdate
from pathlib import Path

import pgxn
from build import built, extension_version
from common import EXTENSION, MAJORS, ROOT, output_of, run_main, say, step, target_dir
from in_venv import interpreter
from library import build_id, glibc, split
from package import PACKAGING, moment, package
from postgres import main_prefix
from third_party import licences

RELEASE = "1"  # of the package, of one version of what is in it
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # as Debian calls them
# Debian's own variables name another builder.
MAINTAINER = f"{os.environ.get('DEBFULLNAME', 'pg_idempotent contributors')} <{os.environ.get('DEBEMAIL', 'pg-idempotent@users.noreply.invalid')}>"


def directory():
    return target_dir() / "packages"


def compressed(text):
    return gzip.compress(text.encode(), mtime=0)


def changelog(major, version):
    """The package's own, in Debian's form."""
    return (f"postgresql-{major}-idempotent ({version}-{RELEASE}) unstable; urgency=medium\n\n  * pg_idempotent {version}.\n\n"
            f" -- {MAINTAINER}  {formatdate(moment())}\n")


def indented(text):
    """A field of many lines: an empty one is a dot."""
    return "\n".join(f" {line}" if line.strip() else " ." for line in text.strip().splitlines())


def documents(major, version, into):
    into.mkdir()
    (into / "changelog.gz").write_bytes(compressed((ROOT / "CHANGELOG.md").read_text()))
    (into / "changelog.Debian.gz").write_bytes(compressed(changelog(major, version)))
    licence = indented((ROOT / "LICENSE").read_text().partition("\n")[2])
    (into / "copyright").write_text(string.Template((PACKAGING / "copyright.in").read_text()).substitute(licence=licence))
    (into / "crates.txt.gz").write_bytes(compressed(licences(major)))


def deb(config, values, files, into):
    """Fills in a configuration of nfpm, and returns the package that it makes."""
    filled = files / config
    filled.write_text(string.Template((PACKAGING / config).read_text()).substitute(values))
    nfpm = interpreter("packages").with_name("nfpm")
    said = output_of([nfpm, "package", "-f", filled, "-p", "deb", "-t", into], cwd=str(ROOT),
                     env={**os.environ, "SOURCE_DATE_EPOCH": str(moment())})
    return Path(re.search(r"created package: (\S+)", said).group(1))


def debs(major, into, library=None, release=RELEASE):
    """The Debian package of a major, and that of its debug symbols."""
    version, made = extension_version(), built(main_prefix(major) / "bin" / "pg_config")
    files = into / f"files-{major}"
    shutil.rmtree(str(files), ignore_errors=True)
    (files / "lib").mkdir(parents=True)
    library = library or made / "lib" / f"{EXTENSION}.so"
    split(library, files / "lib" / f"{EXTENSION}.so", files / "debug")
    shutil.copytree(str(made / "extension"), str(files / "extension"))
    documents(major, version, files / "doc")
    (files / "overrides").write_text(string.Template((PACKAGING / "overrides.in").read_text()).substitute(major=major))
    identity = build_id(library)
    values = {"major": major, "arch": ARCHITECTURES[platform.machine()], "version": version, "release": release, "maintainer": MAINTAINER,
              "moment": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment())), "files": files, "glibc": glibc(library), "build_id": identity,
              "build_id_directory": identity[:2], "build_id_file": identity[2:]}
    found = [deb(config, values, files, into) for config in ("deb.yaml", "dbgsym.yaml")]
    shutil.rmtree(str(files))
    return found


def sums(paths):
    """For sha256sum --check."""
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(paths))


def main():
    shutil.rmtree(str(directory()), ignore_errors=True)
    directory().mkdir(parents=True)
    paths = []
    for major in sys.argv[1:] or MAJORS:
        with step(f"packing for Postgres {major}"):
            paths += debs(major, directory())
            tarball = package(main_prefix(major) / "bin" / "pg_config")
            paths.append(Path(shutil.copy2(str(tarball), str(directory()))))
    with step("packing the source for PGXN"):
        paths.append(pgxn.distribution(directory(), moment()))
    (directory() / "SHA256SUMS").write_text(sums(paths))
    say(f"in {directory()}:")
    for path in [*paths, directory() / "SHA256SUMS"]:
        say(f"    {path.stat().st_size:>10,}  {path.name}")


if __name__ == "__main__":
    run_main(main)
