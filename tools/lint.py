"""`make lint`: rustfmt, and clippy on every major; any warning is an error."""

import subprocess

from cargo import run_cargo
from common import MAIN_MAJOR, MAJORS, ROOT, Failure, run_main, step
from toolchain import cargo_env

# The flags cargo pgrx builds with: the bindings that a build has made are used again.
PGRX_FLAGS = ["--config", 'target.\'cfg(all(target_family = "unix", not(target_os = "macos")))\'.rustflags = ["-C", "link-arg=-Wl,--no-gc-sections"]']


def clippy(title, arguments, env, name, flags=()):
    with step(f"clippy: {title}"):
        run_cargo(["cargo", "clippy", "--release", "--locked", *flags, *arguments, "--", "-D", "warnings"], env, name)


def main():
    env = cargo_env()
    for tool in ("fmt", "clippy"):
        if subprocess.run(["cargo", tool, "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0:
            raise Failure(f"cargo {tool} is missing. Install it with:\n    rustup component add rustfmt clippy")
    with step("rustfmt"):
        if subprocess.run(["cargo", "fmt", "--all", "--check"], cwd=str(ROOT)).returncode != 0:
            raise Failure("not formatted as rustfmt does: cargo fmt --all")
    for major in MAJORS:
        clippy(f"Postgres {major}", ["--no-default-features", "--features", f"pg{major}", "--lib"], env, f"clippy-{major}", PGRX_FLAGS)
    clippy("test functions", ["--no-default-features", "--features", f"pg{MAIN_MAJOR} pg_test", "--lib"], env, "clippy-pg_test", PGRX_FLAGS)
    clippy("domain tests and client programs", ["-p", "domain", "-p", "client", "--all-targets"], env, "clippy-client")


if __name__ == "__main__":
    run_main(main)
