"""Whether README.md and the pages in docs/ tell the truth: runs their SQL and compares what psql prints, compares the tables of
functions and settings with the extension, and looks for every test and every page they name.

An ```sql block that is followed by a ```text block must print just that. The SQL of all blocks of a page runs in one database for
each page, in order; the statements in its ```python blocks are prepared there.
"""

import difflib
import re
import subprocess

import pytest

from common import ROOT
from links import check_links
from places import PLACES, exists
from reference import check_functions, check_settings
from server import PRELOADED
from source import check_source

SETTINGS = PRELOADED
README = ROOT / "README.md"
REFERENCE = ROOT / "docs" / "reference.md"
GUARANTEES = ROOT / "docs" / "guarantees.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
DATABASE = "idempotent_readme"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
QUOTED = re.compile(r"^> ?", re.M)
# A statement in Python: one string, with %s where the driver puts a parameter.
STATEMENT = re.compile(r'"((?:SELECT|INSERT|UPDATE|DELETE)\b[^"]*)"')
# `client/FILE::FUNCTION`; in the tables of promises a kind that is not known is a test that is not there.
TEST = re.compile(r"`([a-z_]+)/([a-z0-9_/-]+)(?:::([\w:]+))?`")


class Psql:
    """psql on a server; for documents with nothing but its own settings."""

    def __init__(self, server):
        self.command, self.env = [str(server.prefix / "bin" / "psql"), "-X", "-P", "pager=off"], server.env()

    def __call__(self, sql, database, *options):
        done = subprocess.run([*self.command, *options, "-d", database], env=self.env, input=sql, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, universal_newlines=True)
        return [re.sub(r"^psql:<stdin>:\d+: ", "", line.rstrip()) for line in done.stdout.strip("\n").splitlines()]

    def query(self, sql, database):
        """Rows of columns."""
        return [line.split("|") for line in self(sql, database, "-A", "-t", "-q")]


def transcripts(text):
    """(language, SQL, what it prints or None) of each ```sql and ```python block, also within a quotation."""
    blocks = [(match.group(1), match.group(2)) for match in BLOCK.finditer(QUOTED.sub("", text))]
    for (language, body), (following, output) in zip(blocks, blocks[1:] + [("", "")]):
        if language == "sql":
            yield language, body, output if following == "text" else None
        elif language == "python":
            yield language, prepared(body), None


def prepared(program):
    """The statements of a program, each to be prepared: whether the server understands it."""
    found = []
    for number, statement in enumerate(STATEMENT.findall(program)):
        parts = statement.split("%s")
        numbered = "".join(part + f"${at}" for at, part in enumerate(parts[:-1], 1)) + parts[-1]
        found.append(f"PREPARE statement_{number} AS {numbered};\nDEALLOCATE statement_{number};")
    return "\n".join(found)


def check_transcripts(page, psql):
    text = page.read_text()
    psql(f"DROP DATABASE IF EXISTS {DATABASE}", "postgres", "-q")
    psql(f"CREATE DATABASE {DATABASE}", "postgres", "-q")
    roles = "SELECT rolname FROM pg_roles"
    before = psql.query(roles, "postgres")
    results = []
    try:
        for language, sql, expected in transcripts(text):
            printed = psql(sql, DATABASE)
            if expected is None:
                good = bool(sql) and not any(line.startswith(("ERROR", "FATAL")) for line in printed)
                difference = printed
            else:
                wanted = [line.rstrip() for line in expected.strip("\n").splitlines()]
                difference = list(difflib.unified_diff(wanted, printed, page.name, "psql", lineterm="", n=1))
                good = not difference
            first = sql.strip().splitlines()[0] if sql.strip() else f"a {language} block without a statement"
            results.append((good, "runs" if expected is None else "prints", f"{page.name}: {first}", difference))
        if page == REFERENCE:
            results += check_functions(text, lambda sql: psql.query(sql, DATABASE))
            results += check_settings(text, lambda sql: psql.query(sql, DATABASE))
    finally:
        psql(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)", "postgres", "-q")
        for role in psql.query(roles, "postgres"):
            if role not in before:
                psql(f'DROP ROLE "{role[0]}"', "postgres", "-q")
    return results


def check_tests(page):
    """Every test that a page names exists. Each promise in a table of promises names one."""
    results = []
    in_promises = False
    for line in page.read_text().splitlines():
        in_promises = line.startswith("| promise |") or (in_promises and line.startswith("|"))
        named = [found for found in TEST.findall(line) if in_promises or found[0] in PLACES]
        for kind, file, function in named:
            title = f"{page.name}: {kind}/{file}" + (f"::{function}" if function else "")
            results.append((exists(kind, file, function), "exists", title, []))
        if in_promises and not named and not line.startswith(("| promise |", "|--")):
            results.append((False, "has a test", f"{page.name}: {line}", []))
    return results


# What no example is to show: `SELECT *` of ours, a function once per column, an answer that is sent back for nothing.
UNWISE = re.compile(r"SELECT \*\s+FROM idempotent_\w+\(|\(idempotent_\w+\([^;]*?\)\)\.\*|SELECT idempotent_(?:complete|fail)\(")


def check_examples(page):
    found = [match.group() for _, body in BLOCK.findall(page.read_text()) for match in UNWISE.finditer(body)]
    return [(not found, "asks for what it needs", page.name, found)]


def check_words(page):
    """There is one table of functions, and no page promises more than the guarantees do."""
    text = page.read_text()
    rows = [] if page == REFERENCE else re.findall(r"^\| `(?:CALL )?idempotent_\w+\(.*$", text, re.M)
    return [(not rows, "leaves functions to the reference", page.name, rows),
            (not re.search(r"exactly[\s-]+once", text, re.I), "claims at most one effect", page.name, [])]


def tell(report, results):
    for good, what, title, difference in results:
        report(f"{what}: {title}", good, said="\n".join(difference))


@pytest.mark.reports
@pytest.mark.parametrize("name", [page.name for page in PAGES])
def test_page(report, server, name):
    page = next(page for page in PAGES if page.name == name)
    tell(report, check_transcripts(page, Psql(server)) + check_tests(page) + check_words(page) + check_examples(page) + check_links(ROOT, [page]))


@pytest.mark.reports
def test_architecture_names_what_is_there(report):
    results = check_source(ROOT, ARCHITECTURE)
    assert {what for _, what, _, _ in results} == {"is there", "is defined", "is a word of the source"}
    tell(report, results)


def test_problems_are_explained():
    """The `type` of each problem is a heading of the page."""
    table = (ROOT / "crates" / "rules" / "src" / "tests" / "http_problem.rs").read_text()
    anchors = set(re.findall(r'\("\w+", \d{3}, "([a-z-]+)"\)', table))
    headings = re.findall(r"^### (.*)$", (ROOT / "docs" / "http.md").read_text(), re.M)
    assert len(anchors) > 5 and anchors <= {heading.lower().replace(" ", "-") for heading in headings}


def test_guarantees_name_tests(major):
    assert any(what == "exists" for _, what, _, _ in check_tests(GUARANTEES))


from afterwards import test_server_logs_hold_nothing_harmful, test_tables_and_indexes_are_intact  # noqa: E402, F401 (the last)
