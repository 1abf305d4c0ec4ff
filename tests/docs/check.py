"""Whether README.md and the pages in docs/ tell the truth: runs their SQL and compares what psql prints, compares the tables of
functions and settings with the extension, and looks for every test and every page they name.

An ```sql block that is followed by a ```text block must print just that. The SQL of all blocks of a page runs in one database for
each page, in order; the statements in its ```python blocks are prepared there. Environment: PGHOST, PGPORT, PGUSER (a superuser)
and PGBIN.
"""

import difflib
import os
import re
import subprocess
import sys
from pathlib import Path

from links import check_links
from places import PLACES, exists
from reference import check_functions, check_settings

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
REFERENCE = ROOT / "docs" / "reference.md"
GUARANTEES = ROOT / "docs" / "guarantees.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
PSQL = [str(Path(os.environ.get("PGBIN", "")) / "psql"), "-X", "-P", "pager=off"]
DATABASE = "idempotent_readme"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
QUOTED = re.compile(r"^> ?", re.M)
# A statement in Python: one string, with %s where the driver puts a parameter.
STATEMENT = re.compile(r'"((?:SELECT|INSERT|UPDATE|DELETE)\b[^"]*)"')
# `client/FILE::FUNCTION`; in the tables of promises a kind that is not known is a test that is not there.
TEST = re.compile(r"`([a-z_]+)/([a-z0-9_/-]+)(?:::([\w:]+))?`")


def psql(sql, database, *options):
    done = subprocess.run([*PSQL, *options, "-d", database], input=sql, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          universal_newlines=True)
    return [re.sub(r"^psql:<stdin>:\d+: ", "", line.rstrip()) for line in done.stdout.strip("\n").splitlines()]


def query(sql, database):
    """Rows of columns."""
    return [line.split("|") for line in psql(sql, database, "-A", "-t", "-q")]


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


def check_transcripts(page):
    text = page.read_text()
    psql(f"DROP DATABASE IF EXISTS {DATABASE}", "postgres", "-q")
    psql(f"CREATE DATABASE {DATABASE}", "postgres", "-q")
    roles = "SELECT rolname FROM pg_roles"
    before = query(roles, "postgres")
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
            results += check_functions(text, lambda sql: query(sql, DATABASE))
            results += check_settings(text, lambda sql: query(sql, DATABASE))
    finally:
        psql(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)", "postgres", "-q")
        for role in query(roles, "postgres"):
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


def check_words(page):
    """There is one table of functions, and no page promises more than the guarantees do."""
    text = page.read_text()
    rows = [] if page == REFERENCE else re.findall(r"^\| `(?:CALL )?idempotent_\w+\(.*$", text, re.M)
    return [(not rows, "leaves functions to the reference", page.name, rows),
            (not re.search(r"exactly[\s-]+once", text, re.I), "claims at most one effect", page.name, [])]


def main():
    results = []
    for page in PAGES:
        results += check_transcripts(page) + check_tests(page) + check_words(page)
    results += check_links(ROOT, PAGES)
    promises = sum(what == "exists" and title.startswith(GUARANTEES.name) for _, what, title, _ in results)
    results.append((promises > 0, "has tests", f"{GUARANTEES.name} names {promises} tests", []))
    for good, what, title, difference in results:
        if not good:
            print(f"    FAILED {what}: {title}", *(f"        {line}" for line in difference), sep="\n")
    failed = sum(not good for good, *_ in results)
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main())
