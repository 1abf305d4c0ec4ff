"""Whether the faults still fit the source: each applies, names tests that exist, and is in RESULTS.md as caught.

Nothing is built here, so `make test` does it every time; `make faults` puts them in and runs the tests.
"""

import re

import pytest

from anchors import source
from catalog import FAULTS
from common import ROOT
from fault import DoesNotApply, apply
from places import exists

HISTORIES = ("history/everything", "history/leases")
TEST = re.compile(r"(client|regress|isolation)/([a-z0-9_/-]+)(?:::(\w+))?")
UNNOTICED = re.compile(r"\*\*(?:nothing|error)\*\*")  # as results.py writes it
TEXTS = source(ROOT)
RESULTS = (ROOT / "tests" / "faults" / "RESULTS.md").read_text()


def problems(fault):
    try:
        apply(fault, TEXTS)
    except DoesNotApply as problem:
        yield str(problem)
    for test in fault.tests:
        named = TEST.fullmatch(test)
        if test != "domain" and test not in HISTORIES and not (named and exists(*named.groups())):
            yield f"there is no test {test}"
    row = re.search(rf"^\| {fault.name} \| .*$", RESULTS, re.M)
    if not row or UNNOTICED.search(row.group()):
        yield f"not in RESULTS.md as noticed: make faults ONLY={fault.name}"
    if [other.name for other in FAULTS].count(fault.name) > 1:
        yield "two have this name"


@pytest.mark.parametrize("name", [fault.name for fault in FAULTS])
def test_fault_fits(name):
    found = [problem for fault in FAULTS if fault.name == name for problem in problems(fault)]
    assert not found, "\n".join(found)
