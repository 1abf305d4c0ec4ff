"""`make fuzz`: random input for MINUTES, everything that `make test` does of it for seconds; SEED repeats a run."""

import os
import time

import logs
from build import prepare
from common import Failure, run_main, say
from fuzz import PARTS, run_fuzz
from suites import SUITE_TIMEOUT, run_cargo_test

# The domain's properties take turns on two cores: each gets so much of the time of all of them.
PROPERTIES, CORES = 22, 2
DOMAIN_SHARE = 0.15


def number(name, otherwise):
    text = os.environ.get(name) or otherwise
    if not text.isdigit():
        raise Failure(f"{name}={text}: a whole number is needed")
    return int(text)


def main():
    total = number("MINUTES", "20") * 60
    if total == 0:
        raise Failure("MINUTES=0: at least one is needed")
    seed = number("SEED", "") if os.environ.get("SEED") else None
    prepare()
    since = time.time()
    say(f"==> {total // 60} min of random input")
    # Not longer than a suite may take.
    each = min(total * DOMAIN_SHARE, SUITE_TIMEOUT / 2) * CORES / PROPERTIES
    env = {**os.environ, "FUZZ_SECONDS": f"{each:.1f}", **({"FUZZ_SEED": str(seed)} if seed is not None else {})}
    passed, failed = run_cargo_test(["--profile", "quick", "--locked", "-p", "domain", "--lib", "fuzz"], env)
    rest = total * (1 - DOMAIN_SHARE) / sum(length for _, length in PARTS)
    more_passed, more_failed = run_fuzz([(name, round(length * rest)) for name, length in PARTS], seed)
    harmless, harmful = logs.check(since)
    passed, failed = passed + more_passed + harmless, failed + more_failed + harmful
    say(f"\n{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    run_main(main)
