"""The Rust side: cargo-pgrx of the pinned version, its configuration, and the environment every cargo call gets."""

import contextlib
import ctypes.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from cargo import run_cargo
from common import CALLER_RUSTFLAGS, MAJORS, ROOT, Failure, cache_dir, checkout_dir, locked, need, output_of, run_main, say, step
from fetch import clang_dir, fetch
from prefix import make_prefixes, test_prefix

PGRX = "0.18.1"
RUSTC = (1, 95)


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


def is_pinned_pgrx(program):
    try:
        done = subprocess.run([program, "pgrx", "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              stdin=subprocess.DEVNULL, universal_newlines=True)
    except OSError:
        return False
    return done.returncode == 0 and done.stdout.split()[-1:] == [PGRX]


def cargo_pgrx():
    """The path of cargo-pgrx: one of the pinned version on PATH, else our own, built once."""
    found = shutil.which("cargo-pgrx")
    if found and is_pinned_pgrx(found):
        return Path(found)
    root = cache_dir() / f"cargo-pgrx-{PGRX}"
    program = root / "bin" / "cargo-pgrx"
    if program.exists():
        return program
    with locked(cache_dir()):
        if not program.exists():
            with step(f"building cargo-pgrx {PGRX} (once; about 3 minutes)"):
                env = {k: v for k, v in os.environ.items() if k != "CARGO_TARGET_DIR"}
                # Without default features: they ask for OpenSSL's headers, to download Postgres sources that we never do.
                run_cargo(["cargo", "install", "cargo-pgrx", "--version", PGRX, "--locked", "--debug", "--no-default-features",
                           "--root", root], env, "cargo-pgrx")
    return program


def pgrx_home():
    """A PGRX_HOME that names our four Postgres builds. Written only when it changes: bindings are made anew otherwise."""
    home = checkout_dir() / "pgrx"
    home.mkdir(exist_ok=True)
    make_prefixes()  # pgrx asks every pg_config in the file, whichever it builds for
    lines = ["[configs]"]
    for major in MAJORS:
        path = str(test_prefix(major) / "bin" / "pg_config")
        lines.append(f"pg{major} = '{path}'")
    text = "\n".join(lines) + "\n"
    config = home / "config.toml"
    if not config.exists() or config.read_text() != text:
        config.write_text(text)
    return home


def clang_settings():
    """bindgen's libclang: always the pinned one, so that every machine generates the same bindings."""
    return {
        "LIBCLANG_PATH": str(clang_dir() / "lib"),
        # The headers beside it: neither a clang nor the headers of one that happens to be installed.
        "BINDGEN_EXTRA_CLANG_ARGS": f'-isystem "{clang_dir() / "lib" / "clang" / "18" / "include"}"',
        "PGRX_BINDGEN_NO_DETECT_INCLUDES": "1",
    }


def settings():
    """What is set for cargo and cargo-pgrx on top of the caller's environment."""
    found = {"PGRX_HOME": str(pgrx_home()), "PGRX_BUILD_FLAGS": "--locked", **clang_settings()}
    found["PATH"] = f"{cargo_pgrx().parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return found


def cargo_env():
    """The environment of every build against the private Postgres builds."""
    check_rust()
    fetch()
    env = {k: v for k, v in os.environ.items()
           if k not in ("LIBCLANG_STATIC_PATH", "LLVM_CONFIG_PATH", "CLANG_PATH", "PGRX_PG_CONFIG_PATH", "PGRX_PG_CONFIG_AS_ENV")}
    env.update(settings())
    return env


def foreign_env(pg_config, target):
    """The environment of a build against somebody's own Postgres: its headers, and a target directory of its own, because
    bindings are not made anew when another Postgres of the same major comes along."""
    check_rust()
    home = checkout_dir() / "pgrx-foreign"
    home.mkdir(exist_ok=True)
    env = dict(os.environ)
    env.update(PGRX_PG_CONFIG_PATH=str(pg_config), PGRX_BUILD_FLAGS="--locked", PGRX_HOME=str(home), CARGO_TARGET_DIR=str(target))
    if CALLER_RUSTFLAGS:
        env["RUSTFLAGS"] = f"{CALLER_RUSTFLAGS} -C link-arg=-Wl,--no-gc-sections"
    if "LIBCLANG_PATH" not in env:
        if platform.system() == "Linux" and platform.machine() == "x86_64":
            fetch()
            env.update(clang_settings())
        elif not ctypes.util.find_library("clang"):
            raise Failure("libclang is missing (it reads Postgres' headers). Install it with:\n    apt-get install libclang-dev\n"
                          "or set LIBCLANG_PATH to the directory it is in")
    env["PATH"] = f"{cargo_pgrx().parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return env


def print_settings():
    """`make env`: lines for a shell, so that cargo pgrx can be used by hand with the same toolchain."""
    # What building prints is for the reader; stdout is for the shell that evaluates it.
    with contextlib.redirect_stdout(sys.stderr):
        cargo_env()
    for name, value in settings().items():
        if name not in ("PATH", "PGRX_BUILD_FLAGS"):
            say(f"export {name}={shlex.quote(value)}")
    say(f'export PATH={shlex.quote(str(cargo_pgrx().parent))}:"$PATH"')


if __name__ == "__main__":
    run_main(print_settings)
