"""Whether README.md and the pages in docs/ tell the truth: runs their SQL and compares what psql prints, compares the tables of
functions and settings with the extension, and looks for every test and every page they name.

An ```sql block that is followed by a ```text block must print just that. The SQL of all blocks of a page runs in one database for
each page, in order; the statements in its ```python blocks are prepared there.
"""

import re
import subprocess

import pytest

import figures
from common import ROOT
from links import check_links
from monitoring import check_kit
from places import PLACES, exists
from reference import check_functions, check_settings
from server import PRELOADED
from source import check_source
from transcripts import BLOCK, Psql, played

SETTINGS = PRELOADED
README = ROOT / "README.md"
REFERENCE = ROOT / "docs" / "reference.md"
GUARANTEES = ROOT / "docs" / "guarantees.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
DATABASE = "idempotent_readme"
# `client/FILE::FUNCTION`; in the tables of promises a kind that is not known is a test that is not there.
TEST = re.compile(r"`([a-z_]+)/([a-z0-9_/-]+)(?:::([\w:]+))?`")


def check_transcripts(page, psql):
    text = page.read_text()
    psql(f"DROP DATABASE IF EXISTS {DATABASE}", "postgres", "-q")
    psql(f"CREATE DATABASE {DATABASE}", "postgres", "-q")
    roles = "SELECT rolname FROM pg_roles"
    before = psql.query(roles, "postgres")
    results = []
    try:
        results += played(page.name, text, lambda sql: psql(sql, DATABASE))
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


# What no example is to show: `SELECT *` of ours, a function once per column, an answer that is sent back for nothing, an interval that several
# drivers refuse (docs/drivers.md).
UNWISE = re.compile(r"SELECT \*\s+FROM idempotent_\w+\(|\(idempotent_\w+\([^;]*?\)\)\.\*|SELECT idempotent_(?:complete|fail)\("
                    r"|\b(?:lease|wait|ttl|delay|\w*retention)\s*=>\s*(?:%s|\$\d)")


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


def test_places_of_figures():
    """`make bench-page` has a table for each place in the pages, and a place for each table."""
    texts = [path.read_text() for path in figures.PAGES]
    found = [name for text in texts for _, name, _ in figures.PLACE.findall(text)]
    assert sorted(found) == sorted(figures.PLACES)
    assert sum(text.count("<!-- measured:") for text in texts) == len(found)


def test_health_check(server):
    """The line for the shell, in a database called shop: all is well, something is wrong, there is no database."""
    line, = re.findall(r"^found=.*idempotent_doctor.*$", (ROOT / "docs" / "operating.md").read_text(), re.M)

    def check():
        done = subprocess.run(["sh", "-c", line], env=server.env(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              universal_newlines=True)
        return done.returncode, done.stdout.strip().partition("|")[0]
    server.must("CREATE DATABASE shop")
    try:
        server.must("CREATE EXTENSION pg_idempotent", "shop")
        assert check() == (0, "")
        server.must("CREATE INDEX ON idempotent.record (key)", "shop")
        assert check() == (1, "foreign_index")
    finally:
        server.must("DROP DATABASE shop WITH (FORCE)")
    assert check() == (2, "")


@pytest.mark.reports
def test_monitoring_kit(report, server):
    """Every query, as a member of pg_monitor."""
    server.must("DROP DATABASE IF EXISTS monitored")
    server.must("CREATE DATABASE monitored")
    server.must("CREATE EXTENSION pg_idempotent; CREATE ROLE watcher LOGIN IN ROLE pg_monitor; "
                "SELECT idempotent_claim('charge', 'k', lease => '1 minute');"
                "SELECT idempotent_claim('charge', 'k', lease => '1 minute', wait => '1 millisecond')", "monitored")

    def ask(sql):
        code, out, error = server.psql(f"SET SESSION AUTHORIZATION watcher;\n\\pset tuples_only off\n{sql}", "monitored")
        lines = out.splitlines()
        return (lines[0].split("|") if code == 0 and len(lines) > 2 else []), error or ("" if len(lines) > 2 else "no row")
    try:
        tell(report, check_kit(ROOT, ask))
    finally:
        server.must("DROP DATABASE monitored WITH (FORCE)")
        server.must("DROP ROLE watcher")


def test_guarantees_name_tests(major):
    assert any(what == "exists" for _, what, _, _ in check_tests(GUARANTEES))


from afterwards import test_server_logs_hold_nothing_harmful, test_tables_and_indexes_are_intact  # noqa: E402, F401 (the last)
