"""Whether the faults still fit the source: each applies, names tests that exist, and is in RESULTS.md as caught.

Nothing is built here, so `make test` does it every time; `make faults` puts them in and runs the tests.
"""

import re
import sys
from pathlib import Path

from anchors import source
from catalog import FAULTS
from fault import DoesNotApply, apply

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "docs"))
from places import exists  # noqa: E402 (found by the path above)

HISTORIES = ("history/everything", "history/leases")
TEST = re.compile(r"(client|regress|isolation)/([a-z0-9_/-]+)(?:::(\w+))?")
UNNOTICED = re.compile(r"\*\*(?:nothing|error)\*\*")  # as tools/fault_results.py writes it


def problems(fault, texts, results):
    try:
        apply(fault, texts)
    except DoesNotApply as problem:
        yield str(problem)
    for test in fault.tests:
        named = TEST.fullmatch(test)
        if test != "domain" and test not in HISTORIES and not (named and exists(*named.groups())):
            yield f"there is no test {test}"
    row = re.search(rf"^\| {fault.name} \| .*$", results, re.M)
    if not row or UNNOTICED.search(row.group()):
        yield f"not in RESULTS.md as noticed: make faults ONLY={fault.name}"


def main():
    results = (ROOT / "tests" / "faults" / "RESULTS.md").read_text()
    texts = source(ROOT)
    failed = 0
    for fault in FAULTS:
        found = list(problems(fault, texts, results))
        if [other.name for other in FAULTS].count(fault.name) > 1:
            found.append("two have this name")
        failed += bool(found)
        for problem in found:
            print(f"    FAILED {fault.name}: {problem}")
    print(f"{len(FAULTS) - failed} passed, {failed} failed")
    return 1 if failed or not FAULTS else 0


if __name__ == "__main__":
    sys.exit(main())
