"""Where a test is that a document names: `client/FILE::FUNCTION`, `regress/FILE` and so on; between may be modules."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLACES = {"client": ("tests/client/tests/{}.rs",), "regress": ("tests/pg_regress/sql/{}.sql",), "isolation": ("tests/isolation/specs/{}.spec",),
          "domain": ("crates/rules/src/tests/{}.rs", "tests/domain/src/{}.rs", "tests/domain/src/{}/mod.rs"), "demo": ("sql/demo/{}.sql",), "docs": ("tests/docs/{}.py",), "http": ("tests/over_http/{}.py",), "drivers": ("tests/drivers/{}.py",), "upgrade": ("tests/upgrade/{}.py",),
          "packages": ("tests/packages/{}.py",), "drill": ("tests/drill/{}.py",), "scale": ("tests/scale/{}.py",), "python": ("clients/python/tests/{}.py",), "node": ("clients/node/tests/{}.test.ts",),
          "rust_client": ("clients/rust/tests/{}.rs",), "checkout": ("tests/checkout/{}.py",),
          "fuzz": ("tests/fuzz/src/{}.rs", "tests/fuzz/src/{}/mod.rs", "tests/fuzz/{}.py")}


def exists(kind, name, function):
    """Whether there is such a test; without a function, such a file of tests."""
    *modules, function = (function or "").split("::")
    name = "/".join([name, *modules])
    paths = [ROOT / place.format(name) for place in PLACES.get(kind, ())]
    defined = re.compile(rf"\b(?:fn|def) {function}[(<]" if function else "")
    return any(path.exists() and defined.search(path.read_text()) for path in paths)
