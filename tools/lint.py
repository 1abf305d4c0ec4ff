"""`make lint`: rustfmt, clippy on every major, and what others check for us (audit.py); any warning is an error."""

import subprocess

import audit
from cargo import run_cargo
from common import MAIN_MAJOR, MAJORS, ROOT, Failure, run_main, say, step
from toolchain import cargo_env

# The flags cargo pgrx builds with: the bindings that a build has made are used again.
PGRX_FLAGS = ["--config", 'target.\'cfg(all(target_family = "unix", not(target_os = "macos")))\'.rustflags = ["-C", "link-arg=-Wl,--no-gc-sections"]']


def clippy(title, arguments, env, name, flags=()):
    """Returns whether it was content; every major is looked at, whatever the one before it said."""
    with step(f"clippy: {title}"):
        return passes(["cargo", "clippy", "--release", "--locked", *flags, *arguments, "--", "-D", "warnings"], env, name)


def passes(command, env, name):
    try:
        run_cargo(command, env, name)
    except Failure as failure:
        say(f"    FAILED: {failure}")
        return False
    return True


def main():
    env = cargo_env()
    for tool in ("fmt", "clippy"):
        if subprocess.run(["cargo", tool, "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0:
            raise Failure(f"cargo {tool} is missing. Install it with:\n    rustup component add rustfmt clippy")
    with step("rustfmt"):
        if subprocess.run(["cargo", "fmt", "--all", "--check"], cwd=str(ROOT)).returncode != 0:
            raise Failure("not formatted as rustfmt does: cargo fmt --all")
    done = []
    for title, check in (("pgspot: the SQL scripts", audit.check_scripts), ("cargo-deny: licences, sources and versions of crates", audit.check_crates),
                         ("cargo-deny: advisories", audit.check_advisories)):
        with step(title):
            done.append(check())
    done += [clippy(f"Postgres {major}", ["--no-default-features", "--features", f"pg{major}", "--lib"], env, f"clippy-{major}", PGRX_FLAGS)
            for major in MAJORS]
    done.append(clippy("test functions", ["--no-default-features", "--features", f"pg{MAIN_MAJOR} pg_test", "--lib"], env,
                       "clippy-pg_test", PGRX_FLAGS))
    programs = [word for name in ("rules", "domain", "client", "history", "fuzz", "rivals") for word in ("-p", name)]
    done.append(clippy("domain tests and client programs", [*programs, "--all-targets"], env, "clippy-client"))
    if None in done:
        say("\nSKIPPED: the advisory database cannot be fetched, so NOBODY has looked whether a crate has a known weakness.")
        say("Repeat it where it can be, and have it fail where it cannot: ADVISORIES=required make lint")
    if False in done:
        raise Failure(f"{done.count(False)} of {len(done)} checks failed")


if __name__ == "__main__":
    run_main(main)
