"""`make faults`: puts each fault of tests/faults into a copy of the source, and shows that a test notices it.

The tools know the tree that they are in. So this runs twice: in the checkout it makes the copy, below target/faults, and
starts itself anew from there; the copy has its own target directory, prefix and servers. ONLY= chooses faults by name.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from pathlib import Path

from build import check_rust
from common import EXTENSION, MAIN_MAJOR, ROOT, Failure, hash_inputs, run_main, say, seconds, target_dir
from fault_results import Result, write
from in_venv import interpreter

CHECKOUT = "FAULTS_OF"  # set in the copy: the checkout that it was made from
COPIED = ("src", "crates", "sql", "tests", "clients/conformance", "bench/rivals", "tools", "Cargo.toml", "Cargo.lock", f"{EXTENSION}.control", "README.md", ".cargo")
# Most of a try is the build, of our own crate alone: it is made quick, not good.
QUICK = {"OPT_LEVEL": "1", "LTO": "off", "CODEGEN_UNITS": "16", "INCREMENTAL": "true", "DEBUG": "false"}
HANGS = 150  # seconds for the tests of a layer, which without a fault take a tenth of that
# The rules need no server, and most of their faults end there.
LAYERS = ("domain", "regress", "isolation", "client", "history")
HISTORY = "--seconds 20 --seed 5"

# The first test that failed, how many more did in the same layer, and what the layer printed.
Red = namedtuple("Red", "first more output")

sys.path.insert(0, str(ROOT / "tests" / "faults"))
from anchors import source  # noqa: E402 (found by the path above)
from catalog import FAULTS  # noqa: E402
from fault import DoesNotApply, apply  # noqa: E402


def main():
    checkout = os.environ.get(CHECKOUT)
    if checkout:
        return try_all(Path(checkout))
    copy = target_dir() / "faults" / "tree"
    renew(copy, ROOT)
    env = {**os.environ, CHECKOUT: str(ROOT), "CARGO_TARGET_DIR": str(target_dir() / "faults" / "target")}
    env.update({f"CARGO_PROFILE_RELEASE_{name}": value for name, value in QUICK.items()})
    return subprocess.call([sys.executable, str(copy / "tools" / "faults.py")], env=env, cwd=str(copy))


def files(root):
    for name in COPIED:
        path = root / name
        found = path.rglob("*") if path.is_dir() else [path]
        yield from (file.relative_to(root) for file in found if file.is_file() and "__pycache__" not in file.parts)


def renew(copy, checkout):
    """Makes the copy what the checkout is; what is the same is not touched, or cargo would build it again."""
    wanted = set(files(checkout))
    for file in set(files(copy)) - wanted:
        (copy / file).unlink()
    for file in wanted:
        there, here = checkout / file, copy / file
        if not here.exists() or here.read_bytes() != there.read_bytes():
            here.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(there), str(here))  # a program stays one


def try_all(checkout):
    os.nice(10)
    chosen = choose()
    check_rust()
    check_baseline(chosen)
    say(f"==> {len(chosen)} faults")
    results = []
    for fault in chosen:
        results.append(try_one(fault))
        say(f"    {results[-1].line()}")
        write(checkout / "tests" / "faults" / "RESULTS.md", FAULTS, results)
    caught = sum(result.is_caught for result in results)
    say(f"\n{caught} of {len(results)} faults were caught")
    return 0 if caught == len(results) else 1


def choose():
    wanted = os.environ.get("ONLY", "").replace(",", " ").split()
    unknown = set(wanted) - {fault.name for fault in FAULTS}
    if unknown:
        raise Failure(f"there is no fault {', '.join(sorted(unknown))}: their names are in tests/faults/RESULTS.md")
    return [fault for fault in FAULTS if not wanted or fault.name in wanted]


def check_baseline(faults):
    """Without a fault the tests are green, or red would say nothing. Remembered until the source or a test changes."""
    stamp = target_dir().parent / "baseline.json"
    source = hash_inputs([ROOT / file for file in files(ROOT) if file.parts[:2] != ("tests", "faults")])
    kept = json.loads(stamp.read_text()) if stamp.exists() else {}
    green = set(kept["green"]) if kept.get("source") == source else set()
    wanted = {test for fault in faults for test in fault.tests} - green
    if not wanted:
        return
    say(f"==> without a fault: {len(wanted)} tests and files of tests")
    began = time.monotonic()
    red = red_of(sorted(wanted), limit=20 * 60)
    if red:
        raise Failure(f"{red.first} failed without any fault:\n{red.output[-4000:]}")
    stamp.write_text(json.dumps({"source": source, "green": sorted(green | wanted)}))
    say(f"    all passed in {seconds(time.monotonic() - began)}")


def red_of(tests, limit=HANGS):
    """Runs tests, layer by layer; the first red one of the first layer that has one, None if all are green."""
    for layer in LAYERS:
        named = [test for test in tests if test.partition("/")[0] == layer]
        red = named and run(layer, named, limit)
        if red:
            return red
    return None


def run(layer, tests, limit):
    """`make test` in the copy. A suite that hangs or does not build is no way to notice a fault."""
    with tempfile.NamedTemporaryFile("r") as red:
        env = {**os.environ, "ONLY": " ".join(tests), "MAJORS": MAIN_MAJOR, "RED": red.name, "SUITE_TIMEOUT": str(limit)}
        if layer == "history":
            env["ARGS"] = HISTORY
        done = subprocess.run([str(interpreter("test")), "-m", "pytest", "tests"], cwd=str(ROOT), env=env, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, errors="replace")
        found = red.read().splitlines()
    if done.returncode != 0 and not found:
        raise Failure(f"{layer} ended without a red test:\n{done.stdout[-2000:]}")
    return Red(found[0], len(set(found)) - 1, done.stdout) if found else None


def try_one(fault):
    """A fault that does not apply or does not build, or ends a suite without a red test, is an error, and not caught."""
    began = time.monotonic()
    before, changed = source(ROOT), {}
    try:
        changed = apply(fault, before)
        for file, text in changed.items():
            (ROOT / file).write_text(text)
        red, error = red_of(fault.tests), None
    except (DoesNotApply, Failure) as problem:
        red, error = None, str(problem)
    finally:
        for file in changed:
            (ROOT / file).write_text(before[file])
    return Result(fault, red, time.monotonic() - began, error)


if __name__ == "__main__":
    run_main(main)
