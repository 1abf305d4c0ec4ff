"""Throw-away roots in which dpkg installs packages, with a Postgres in Debian's place."""

import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from build import built
from common import EXTENSION, Failure, checkout_dir, need
from debian import libraries, package_root, postgres_root, write_database
from postgres import copy_tree, main_prefix
from server import Server

# Debian 12's own Postgres; of the other major the pinned build takes its place.
RELEASE, DEBIANS_OWN = "bookworm", "15"
PINNED = """Package: {name}
Status: install ok installed
Priority: optional
Section: database
Maintainer: nobody <nobody@localhost>
Architecture: {architecture}
Version: {version}
Description: stands in
"""


class Root:
    """`with Root(major) as root:`; the same for both. `also` names more packages of Debian's that are unpacked into it."""

    def __init__(self, major, also=()):
        self.major = major
        self.also = also
        self.loader = None

    def __enter__(self):
        self.path = Path(tempfile.mkdtemp(prefix="root-", dir=str(checkout_dir())))
        self.path.chmod(0o755)
        if self.major == DEBIANS_OWN:
            copy_tree(postgres_root(RELEASE, self.major), self.path)
            for name in self.also:
                copy_tree(package_root(RELEASE, name), self.path)
            self.loader = libraries(self.path)
        else:
            self.lay_pinned()
        return self

    def __exit__(self, *exception):
        shutil.rmtree(str(self.path), ignore_errors=True)

    def lay_extension(self):
        """The extension's files, without a package."""
        files = built(main_prefix(self.major) / "bin" / "pg_config")
        shutil.copytree(str(files / "lib"), str(self.prefix / "lib"), dirs_exist_ok=True)
        shutil.copytree(str(files / "extension"), str(self.scripts), dirs_exist_ok=True)

    @property
    def prefix(self):
        return self.path / "usr" / "lib" / "postgresql" / self.major

    @property
    def scripts(self):
        return self.path / "usr" / "share" / "postgresql" / self.major / "extension"

    @property
    def library(self):
        return self.prefix / "lib" / f"{EXTENSION}.so"

    def lay_pinned(self):
        """The pinned build, without our own files that its private prefix may hold."""
        copy_tree(main_prefix(self.major), self.prefix)
        for directory in ("lib", "share/extension"):
            for left in (self.prefix / directory).glob(f"{EXTENSION}*"):
                left.unlink()
        # It has its share/ beside lib/, and Debian elsewhere.
        share = self.path / "usr" / "share" / "postgresql"
        share.mkdir(parents=True)
        (share / self.major).symlink_to(self.prefix / "share")
        architecture = subprocess.run([need("dpkg", "it installs the packages", "apt-get install dpkg"), "--print-architecture"],
                                      stdout=subprocess.PIPE, universal_newlines=True, check=True).stdout.strip()
        installed = ((f"postgresql-{self.major}", "1"), ("libc6", platform.libc_ver()[1]), ("libgcc-s1", "12"))
        write_database(self.path, "\n".join(PINNED.format(name=name, version=version, architecture=architecture) for name, version in installed))

    def dpkg(self, *arguments):
        """Root or not; no package of ours has scripts, which would be run outside of the root."""
        env = {**os.environ, "LC_ALL": "C", "PATH": f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin{os.pathsep}/sbin"}
        done = subprocess.run(["dpkg", f"--root={self.path}", "--force-not-root", "--no-pager", *map(str, arguments)], env=env,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
        if done.returncode != 0:
            raise Failure(f"dpkg {' '.join(map(str, arguments))} failed:\n{done.stdout}")
        return done.stdout

    def files(self):
        """Everything in the root but dpkg's own notes."""
        found = subprocess.run(["find", ".", "-path", "./var", "-prune", "-o", "-print"], cwd=str(self.path), stdout=subprocess.PIPE,
                               universal_newlines=True, check=True).stdout
        return set(found.splitlines())

    def server(self, settings, log):
        return Server(self.prefix, settings, keep_log=log, backtrace=True, libraries=self.loader)
