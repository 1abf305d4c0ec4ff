"""Where a test is that a document names: `client/FILE::FUNCTION`, `regress/FILE` and so on."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLACES = {"client": "tests/client/tests/{}.rs", "regress": "tests/pg_regress/sql/{}.sql", "isolation": "tests/isolation/specs/{}.spec",
          "domain": "src/domain/tests/{}.rs", "demo": "sql/demo/{}.sql", "upgrade": "tests/upgrade/{}.py"}


def exists(kind, name, function):
    """Whether there is such a test; without a function, such a file of tests."""
    path = ROOT / PLACES[kind].format(name)
    return path.exists() and (not function or re.search(rf"\b(?:fn|def) {function}\(", path.read_text()) is not None)
