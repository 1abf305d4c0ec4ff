"""The client for Rust (clients/rust): a workspace of its own, which has nothing to do with the extension's."""

import os
import subprocess

from common import ROOT, Failure, run, target_dir

CLIENT = ROOT / "clients" / "rust"
MANIFEST = ("--manifest-path", CLIENT / "Cargo.toml")


def env(of=None):
    """What cargo runs with: its programs are not among the extension's."""
    return {**(os.environ if of is None else of), "CARGO_TARGET_DIR": str(target_dir() / "clients-rust")}


def rustfmt():
    if subprocess.run(["cargo", "fmt", "--check", *map(str, MANIFEST)]).returncode != 0:
        raise Failure(f"not formatted as rustfmt does: cargo fmt --manifest-path {MANIFEST[1].relative_to(ROOT)}")


def clippy():
    """With all features, and with each of those that decide what there is at all."""
    everything = ["--locked", *MANIFEST, "--all-features", "--all-targets"]
    run(["cargo", "clippy", *everything, "--", "-D", "warnings"], env=env())
    for features in ("", "tokio-postgres", "sqlx", "tower", "sqlx,axum,tracing"):
        run(["cargo", "clippy", "--locked", *MANIFEST, "--no-default-features", "--features", features, "--", "-D", "warnings"], env=env())


def rustdoc():
    run(["cargo", "doc", "--locked", *MANIFEST, "--all-features", "--no-deps"], env={**env(), "RUSTDOCFLAGS": "-D warnings"})
