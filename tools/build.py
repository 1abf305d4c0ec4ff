"""Builds the extension with plain cargo, and puts its files where a Postgres looks for them.

cargo-pgrx is not needed for that: the SQL is written by hand, so the install script is the files of sql/ one after the other.
"""

import ctypes.util
import filecmp
import os
import re
import shutil
from pathlib import Path

from cassert import cassert_prefix
from common import (CALLER_RUSTFLAGS, EXTENSION, MAJORS, ROOT, Failure, cache_dir, checkout_dir, hash_inputs, locked, need, output_of, run, step,
                    target_dir)
from fetch import clang_dir, has_clang
from postgres import main_prefix

RUSTC = (1, 95)
# Whether the suites run on a Postgres that checks itself (`make test-cassert`).
ASSERTING = os.environ.get("ASSERTING") == "1"
# What the library is made of, beside the SQL.
INPUTS = ("src", "crates", "Cargo.toml", "Cargo.lock", f"{EXTENSION}.control", ".cargo")
SQL_FILE = re.compile(r'^extension_sql_file!\("\.\./(sql/[^"]+)", name = "(\w+)", (?:(bootstrap)|requires = \["(\w+)"\])\);$', re.M)


def check_rust():
    """Names what is missing before anything long begins."""
    rustup = "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y && . ~/.cargo/env"
    if os.environ.get("SUDO_USER") and not shutil.which("cargo"):
        raise Failure("root has no cargo here. Run make without sudo: `make install` asks for sudo itself when it copies the files")
    need("cargo", "Rust builds the extension", rustup)
    need("cc", "Rust links with it", "apt-get install gcc libc6-dev")
    version = rustc_version()
    numbers = tuple(int(n) for n in version.split()[1].split("-")[0].split(".")[:2])
    if numbers < RUSTC:
        raise Failure(f"{version} is too old, at least {RUSTC[0]}.{RUSTC[1]} is needed. Update it with:\n    rustup update stable")


def rustc_version():
    return output_of(["rustc", "--version"], cwd=str(ROOT)).strip()


def cargo(*arguments, **kwargs):
    check_rust()
    run(["cargo", *arguments, "--locked"], **kwargs)


def major_of(pg_config):
    return re.search(r"(\d+)", output_of([pg_config, "--version"])).group(1)


def is_private(pg_config):
    return checkout_dir() in Path(pg_config).parents


def clang_settings():
    """bindgen's libclang: the pinned one, so that every machine generates the same bindings. Where none is pinned, the system's or the caller's."""
    if not has_clang():
        if "LIBCLANG_PATH" not in os.environ and not ctypes.util.find_library("clang"):
            raise Failure("libclang is missing (it reads Postgres' headers). Install it with:\n    apt-get install libclang-dev\n"
                          "or set LIBCLANG_PATH to the directory it is in")
        return {}
    return {
        "LIBCLANG_PATH": str(clang_dir() / "lib"),
        # The headers beside it: neither a clang nor the headers of one that happens to be installed.
        "BINDGEN_EXTRA_CLANG_ARGS": f'-isystem "{clang_dir() / "lib" / "clang" / "18" / "include"}"',
        "PGRX_BINDGEN_NO_DETECT_INCLUDES": "1",
    }


def build_env(pg_config):
    """The environment of a build against one Postgres. Only for a foreign one the caller's own libclang and RUSTFLAGS count."""
    env = {k: v for k, v in os.environ.items() if k not in ("LLVM_CONFIG_PATH", "CLANG_PATH") and not k.startswith("PGRX_")}
    # pgrx looks whether its settings have changed. These never do, wherever the caller has some.
    home = cache_dir() / "pgrx-unused"
    home.mkdir(exist_ok=True)
    settings = home / "config.toml"
    if not settings.exists():
        settings.touch()
    env.update(PGRX_HOME=str(home), PGRX_PG_CONFIG_PATH=str(pg_config))
    if is_private(pg_config):
        env.pop("LIBCLANG_STATIC_PATH", None)
        return {**env, **clang_settings()}
    if CALLER_RUSTFLAGS:
        env["RUSTFLAGS"] = CALLER_RUSTFLAGS
    if "LIBCLANG_PATH" not in env:
        env.update(clang_settings())
    return env


def built(pg_config, tree=ROOT):
    """A directory with the files to install: lib/ holds the library, extension/ the control file and the SQL. They are for this Postgres,
    and made anew when what they are made of has changed. Another tree has a Cargo.toml of its own."""
    check_rust()
    major = major_of(pg_config)
    # cargo keeps one library, of the major that was built last; and bindings are not made anew when another Postgres of a major comes along.
    kind = f"pg{major}" + ("-cassert" if ASSERTING else "" if is_private(pg_config) else f"-{hash_inputs([], output_of([pg_config]))[:12]}")
    out = target_dir() / "built" / (kind if tree == ROOT else f"{kind}-{version_of(tree)}")
    inputs = [ROOT / name for name in INPUTS if (ROOT / name).exists()] + list((ROOT / "sql").glob("*.sql"))
    wanted = hash_inputs(inputs, rustc_version(), CALLER_RUSTFLAGS)
    stamp = out / "inputs"
    if stamp.exists() and stamp.read_text() == wanted:
        return out
    env = build_env(pg_config)
    env["CARGO_TARGET_DIR"] = str(target_dir() if kind == f"pg{major}" else target_dir() / kind)
    # With assertions of Postgres those of Rust, which come with a debug build.
    profile, directory = ("dev", "debug") if ASSERTING else ("release", "release")
    with locked(checkout_dir()), step(f"building {EXTENSION} {version_of(tree)} for Postgres {major} ({pg_config})"):
        shutil.rmtree(str(out), ignore_errors=True)
        cargo("build", "--lib", "--profile", profile, "--no-default-features", "--features", f"pg{major}", env=env, cwd=str(tree))
        for name in ("lib", "extension"):
            (out / name).mkdir(parents=True)
        shutil.copy(str(Path(env["CARGO_TARGET_DIR"]) / directory / f"lib{library_of(tree)}.so"), str(out / "lib" / f"{EXTENSION}.so"))
        for name, text in scripts(version_of(tree)):
            (out / "extension" / name).write_text(text)
        stamp.write_text(wanted)
    return out


def library_of(tree):
    """What cargo names it: another tree's library has a name of its own, so that neither is taken for the other."""
    named = re.search(r'^\[lib\]\nname = "([^"]+)"', (tree / "Cargo.toml").read_text(), re.M)
    return named.group(1) if named else EXTENSION


def version_of(tree):
    return re.search(r'^version\s*=\s*"([^"]+)"', (tree / "Cargo.toml").read_text(), re.M).group(1)


def extension_version():
    return version_of(ROOT)


def scripts(version):
    """(name, text) of the control file, of the install script and of the updates."""
    control = ROOT / f"{EXTENSION}.control"
    yield control.name, control.read_text().replace("@CARGO_VERSION@", version)
    yield f"{EXTENSION}--{version}.sql", install_script()
    for update in sorted((ROOT / "sql").glob(f"{EXTENSION}--*--*.sql")):
        yield update.name, update.read_text()


def install_script():
    """The files that src/lib.rs names, in its order, which is also that of what they require."""
    files = SQL_FILE.findall((ROOT / "src" / "lib.rs").read_text())
    order = [name for _, name, _, _ in files]
    if not files or not files[0][2] or [required for _, _, _, required in files[1:]] != order[:-1]:
        raise Failure(f"src/lib.rs: each extension_sql_file! requires the one before it, and the first is the bootstrap; found {order}")
    quit_psql = f"\\echo Use \"CREATE EXTENSION {EXTENSION}\" to load this file. \\quit\n"
    return "\n".join([quit_psql, *(f"-- {file}\n{(ROOT / file).read_text()}" for file, *_ in files)])


def install(major):
    """Makes sure the current source is installed in the private Postgres of a major, and returns its prefix."""
    prefix = cassert_prefix() if ASSERTING else main_prefix(major)
    put(built(prefix / "bin" / "pg_config"), prefix)
    return prefix


def put(files, prefix):
    """Copies what `built` has made into a private prefix, and takes away what else is there of the extension."""
    with locked(checkout_dir()):
        for source, target in ((files / "lib", prefix / "lib"), (files / "extension", prefix / "share" / "extension")):
            for left in target.glob(f"{EXTENSION}*"):
                if not (source / left.name).exists():
                    left.unlink()
            for file in source.iterdir():
                replace(file, target / file.name)


def replace(source, target):
    """By a new file: servers that run go on with the old library."""
    if not (target.exists() and filecmp.cmp(str(source), str(target), shallow=False)):
        part = target.with_name(target.name + ".part")
        shutil.copy2(str(source), str(part))
        part.rename(target)


def installed_files(prefix):
    """The extension's files in a private prefix, by their paths in it."""
    return sorted(str(file.relative_to(prefix)) for directory in ("lib", "share/extension") for file in (prefix / directory).glob(f"{EXTENSION}*"))


def program(package, name=None, profile="release"):
    """Builds the program of one of the workspace's other crates, and returns its path. cargo itself knows when there is nothing to do."""
    cargo("build", "--profile", profile, "-p", package)
    return target_dir() / profile / (name or package)
