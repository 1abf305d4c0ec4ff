"""The licences of the crates that are linked into the library, which ask to go with it."""

import json
import platform

from build import build_env
from common import ROOT, Failure, output_of
from postgres import main_prefix
from pathlib import Path

TEXTS = ("LICEN[CS]E*", "COPYING*", "NOTICE*", "UNLICENSE*")


def linked(major):
    """The packages that the library is made of: those that it depends on to run, and not to build or to test."""
    found = json.loads(output_of(["cargo", "metadata", "--locked", "--format-version", "1", "--no-default-features", "--features", f"pg{major}",
                                  "--filter-platform", f"{platform.machine()}-unknown-linux-gnu"], cwd=str(ROOT),
                                 env=build_env(main_prefix(major) / "bin" / "pg_config")))
    nodes = {node["id"]: node for node in found["resolve"]["nodes"]}
    packages = {package["id"]: package for package in found["packages"]}
    reached, waiting = set(), [found["resolve"]["root"]]
    while waiting:
        identity = waiting.pop()
        if identity not in reached:
            reached.add(identity)
            waiting += [dep["pkg"] for dep in nodes[identity]["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"])]
    # A crate of procedural macros runs in the compiler, and nothing of it is linked.
    return sorted((package for package in (packages[identity] for identity in reached)
                   if package["source"] and not all("proc-macro" in target["kind"] for target in package["targets"] if "lib" in "".join(target["kind"]))),
                  key=lambda package: (package["name"], package["version"]))


def licences(major):
    parts = ["Crates that are part of the library, and their licences.\n"]
    for package in linked(major):
        home = Path(package["manifest_path"]).parent
        texts = sorted({path for pattern in TEXTS for path in home.glob(pattern) if path.is_file()})
        named = package["license"] or package["license_file"]
        if not named:
            raise Failure(f"the crate {package['name']} names no licence")
        parts.append(f"{'=' * 80}\n{package['name']} {package['version']}: {named}\n{', '.join(package['authors'])}\n")
        parts += [f"{'-' * 80}\n{path.name}\n\n{path.read_text(errors='replace')}" for path in texts]
    return "\n".join(parts)
