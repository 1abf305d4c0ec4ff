"""What Debian has and a machine may lack: programs and sources, fetched into the cache with apt's own checks, root or not."""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from common import Failure, cache_dir, locked, need, output_of, step

# Where Debian 12 and 13 keep the keys of all their releases.
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SYSTEM_SOURCES = Path("/etc/apt")
# With the loader that belongs to the C library beside it: the system's own may be older.
SCRIPT = """#!/bin/sh
here=$(dirname "$0")
lib=$here/usr/lib/{triplet}
exec "$lib/{loader}" --library-path "$lib" "$here/{path}" "$@"
"""
# What apt has read of its lists stays, too. The configuration of small images has it forget that.
READ_ONCE = ("-o", "Dir::Cache::pkgcache=pkgcache.bin", "-o", "Dir::Cache::srcpkgcache=srcpkgcache.bin")
TRIPLET = f"{platform.machine()}-linux-gnu"
LOADER = {"x86_64": "ld-linux-x86-64.so.2"}.get(platform.machine(), f"ld-linux-{platform.machine()}.so.1")


class Apt:
    """apt with lists and archives of our own: it changes nothing of the system's, so it needs no root, and no `apt-get update` before."""

    def __init__(self, source_suite=None, suite=None):
        """With what the system takes packages from, and the sources of one release of Debian; or with the packages of one, alone."""
        need("apt-get", "it fetches what the system does not have", "a Debian or a system like it is needed for this")
        # Lists stay, of each set of sources apart: where nothing has changed since the last download, apt only asks.
        self.home = cache_dir() / "apt" / (suite or f"system-{source_suite}")
        for directory in ("sources", "download"):
            shutil.rmtree(str(self.home / directory), ignore_errors=True)
        for directory in ("lists/partial", "cache/archives/partial", "sources", "download"):
            (self.home / directory).mkdir(parents=True, exist_ok=True)
        if suite:
            self.add("deb", suite)
        else:
            self.copy_sources()
        if source_suite:
            self.add("deb-src", source_suite)
        self.config = self.home / "apt.conf"
        # Without the system's own list of what is installed, which may be newer than what the sources here have.
        status = self.home / "status"
        status.touch()
        os.utime(str(status), (0, 0))  # or apt takes what it has read for out of date
        self.config.write_text(f'Dir::State::status "{status}";\nDir::Etc::sourcelist "/dev/null";\nDir::Etc::sourceparts "{self.home / "sources"}";\n'
                               f'Dir::State::lists "{self.home / "lists"}";\nDir::Cache "{self.home / "cache"}";\nAPT::Sandbox::User "";\n'
                               # Descriptions for people, in their languages and with pictures.
                               'Acquire::Languages "none";\nAcquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";\n')
        self.run(["apt-get", "-q", "update"])

    def copy_sources(self):
        for path in [SYSTEM_SOURCES / "sources.list", *(SYSTEM_SOURCES / "sources.list.d").glob("*")]:
            if path.suffix in (".list", ".sources") and path.is_file():
                shutil.copyfile(str(path), str(self.home / "sources" / path.name))

    def add(self, kind, suite):
        """From the mirror that the system uses, whichever that is."""
        found = output_of(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Component: main"])
        mirrors = [uri for uri in found.split() if uri.rstrip("/").endswith("/debian")]
        if not mirrors:
            raise Failure("apt knows no mirror of Debian here")
        option = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
        (self.home / "sources" / f"{kind}.list").write_text(f"{kind} {option}{mirrors[0]} {suite} main\n")

    def run(self, command, **kwargs):
        return output_of([command[0], *READ_ONCE, *command[1:]], env={**os.environ, "APT_CONFIG": str(self.config), "LC_ALL": "C"}, **kwargs)

    def source(self, package, into):
        """The original tarball of a source package."""
        self.run(["apt-get", "-q", "source", "--download-only", "--only-source", package], cwd=str(into))
        found = list(Path(into).glob("*.orig.tar.*"))
        if not found:
            raise Failure(f"Debian's source package {package} has no original tarball")
        return found[0]

    def closure(self, package):
        """The package and all that it depends on."""
        plan = self.run(["apt-get", "-q", "-s", "--no-install-recommends", "install", package])
        return re.findall(r"^Inst (\S+) ", plan, re.M)

    def stanzas(self, packages):
        """What dpkg would note of packages that are installed."""
        found = self.run(["apt-cache", "show", "--no-all-versions", *packages])
        found = re.sub(r"^(?:Filename|Size|MD5sum|SHA\d+|Description-md5|Tag): .*\n(?:[ \t].*\n)*", "", found, flags=re.M).strip().split("\n\n")
        return "\n\n".join(re.sub(r"\A(Package: .*\n)", r"\1Status: install ok installed\n", stanza) for stanza in found) + "\n"

    def programs(self, packages, into):
        """Unpacks packages below a directory, without installing them."""
        scratch = self.home / "download"
        self.run(["apt-get", "-q", "download", *packages], cwd=str(scratch))
        for package in scratch.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(package), str(into)], check=True)


def pgbouncer():
    """The path of a PgBouncer that keeps prepared statements over transactions. Debian 12 has one that is too old (1.21 was the first), so
    this takes the one of the next release."""
    given = os.environ.get("PGBOUNCER")
    packages = ("pgbouncer", "libaudit1", "libc6", "libcap-ng0", "libcap2", "libcares2", "libevent-2.1-7t64", "libpam0g", "libssl3t64",
                "libsystemd0", "libzstd1", "zlib1g")
    return Path(given) if given else program("PgBouncer", "trixie", "usr/sbin/pgbouncer", packages, 17,
                                             "Name a PgBouncer of version 1.21 or newer yourself: PGBOUNCER=/path/to/pgbouncer make test")


def program(title, release, path, packages, megabytes, otherwise):
    """A program of one release of Debian, whatever the system's own is: with the libraries that it was built for, the C library among them,
    unpacked into the cache. Nothing is installed. `otherwise` says what to do where it cannot be had."""
    name = Path(path).name

    def fill(directory):
        script = directory / name
        try:
            Apt(suite=release).programs(packages, directory)
            script.write_text(SCRIPT.format(path=path, triplet=TRIPLET, loader=LOADER))
            script.chmod(0o755)
            output_of([script, "--version"])
        except Failure as failure:
            raise Failure(f"{failure}\n{otherwise}") from failure
    return unpacked(f"{name}-{release}", f"the {title} of Debian's {release}", megabytes, fill, SCRIPT, packages) / name


def unpacked(name, title, megabytes, fill, *recipe):
    """A directory of the cache that fill(directory) fills, once for each recipe: what is filled otherwise is another directory."""
    home = cache_dir() / f"{name}-{hashlib.sha256(repr(recipe).encode()).hexdigest()[:12]}"
    if not home.is_dir():
        with locked(cache_dir()):
            if not home.is_dir():
                with step(f"downloading {title} (about {megabytes} MB)"), \
                        tempfile.TemporaryDirectory(dir=str(cache_dir()), prefix="download-") as scratch:
                    fresh = Path(scratch) / home.name
                    fresh.mkdir()
                    fill(fresh)
                    fresh.rename(home)  # complete or absent, never half
    return home


# The C library is the system's: programs of one and libraries of another do not go together. LLVM serves the JIT alone, and the rest is
# for the scripts that set up clusters.
NOT_NEEDED = re.compile(r"libc6$|libllvm|libz3|libperl5|libc-|perl|locales|postgresql-common|postgresql-client-common|(?!lib|postgresql-)")


def postgres_root(release, major):
    """A root with what a release of Debian has of a Postgres, and dpkg's note that it is installed with all that it depends on."""
    package = f"postgresql-{major}"

    def fill(root):
        apt = Apt(suite=release)
        names = apt.closure(package)
        apt.programs([name for name in names if not NOT_NEEDED.match(name)], root)
        for left in ("usr/share/doc", "usr/share/man", "usr/share/locale"):
            shutil.rmtree(str(root / left), ignore_errors=True)
        write_database(root, apt.stanzas(names))
    return unpacked(f"{package}-{release}", f"Debian's {package} of {release}", 45, fill, NOT_NEEDED.pattern)


def package_root(release, package, megabytes=1):
    """A root with what one package of a release brings, and nothing of what it depends on."""
    def fill(root):
        Apt(suite=release).programs([package], root)
        shutil.rmtree(str(root / "usr/share/doc"), ignore_errors=True)
    return unpacked(f"{package}-{release}", f"Debian's {package} of {release}", megabytes, fill, "the package alone")


def write_database(root, stanzas):
    """dpkg's own, with these packages in it and none of their files."""
    (root / "var/lib/dpkg/info").mkdir(parents=True)
    (root / "var/lib/dpkg/updates").mkdir()
    (root / "var/lib/dpkg/status").write_text(stanzas)


def libraries(root):
    """Where the loader is to look for the libraries of a root."""
    return os.pathsep.join(str(root / directory / TRIPLET) for directory in ("usr/lib", "lib"))


def lintian(packages):
    """The errors and warnings that lintian finds in packages, but for what they override; "" for none. It is the system's release's, as is the Perl that runs it."""
    def fill(root):
        apt = Apt()
        apt.programs([name for name in apt.closure("lintian") if not re.match(left_out, name)], root)
    left_out = r"libc6$|perl$|perl-|libperl5|debconf|gcc-"
    root = unpacked("lintian", "Debian's lintian", 45, fill, left_out)
    modules = [root / "usr/share/perl5", *root.glob(f"usr/lib/{TRIPLET}/perl5/*"), root / "usr/lib" / TRIPLET / "perl-base"]
    env = {**os.environ, "PERL5LIB": os.pathsep.join(str(path) for path in modules), "LC_ALL": "C.UTF-8", "LD_LIBRARY_PATH": libraries(root),
           "PATH": f"{root / 'usr/bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    options = ["--no-cfg", "--fail-on", "none"] + (["--allow-root"] if os.geteuid() == 0 else [])
    done = subprocess.run([str(root / "usr/bin/lintian"), *options, *map(str, packages)], env=env, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    if done.returncode != 0:
        raise Failure(f"lintian does not work:\n{done.stdout}")
    return done.stdout.strip()
