"""Whether README.md and the pages in docs/ tell the truth: runs their SQL and compares what psql prints, and looks for every test
they name.

An ```sql block that is followed by a ```text block must print just that. The SQL of all such blocks of a page, and of the
blocks before them, runs in one database for each page, in order. Environment: PGHOST, PGPORT, PGUSER (a superuser) and PGBIN.
"""

import difflib
import os
import re
import subprocess
import sys
from pathlib import Path

from places import exists

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PSQL = [str(Path(os.environ.get("PGBIN", "")) / "psql"), "-X", "-P", "pager=off"]
DATABASE = "idempotent_readme"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
# In the table of guarantees; a kind that nobody knows is a test that is not there.
TEST = re.compile(r"`([a-z]+)/([a-z0-9_/-]+)(?:::([\w:]+))?`")


def psql(sql, database, *options):
    done = subprocess.run([*PSQL, *options, "-d", database], input=sql, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          universal_newlines=True)
    return [re.sub(r"^psql:<stdin>:\d+: ", "", line.rstrip()) for line in done.stdout.strip("\n").splitlines()]


def transcripts(text):
    """(SQL, what it prints or None) of each ```sql block up to the last one with output."""
    blocks = [(match.group(1), match.group(2)) for match in BLOCK.finditer(text)]
    found = []
    for (language, body), (following, output) in zip(blocks, blocks[1:] + [("", "")]):
        if language == "sql":
            found.append((body, output if following == "text" else None))
    return found


def check_transcripts(name, text):
    psql(f"DROP DATABASE IF EXISTS {DATABASE}", "postgres", "-q")
    psql(f"CREATE DATABASE {DATABASE}", "postgres", "-q")
    results = []
    try:
        for sql, expected in transcripts(text):
            printed = psql(sql, DATABASE)
            if expected is None:
                good = not any(line.startswith(("ERROR", "FATAL")) for line in printed)
                difference = printed
            else:
                wanted = [line.rstrip() for line in expected.strip("\n").splitlines()]
                difference = list(difflib.unified_diff(wanted, printed, name, "psql", lineterm="", n=1))
                good = not difference
            results.append((good, "runs" if expected is None else "prints", f"{name}: {sql.strip().splitlines()[0]}", difference))
    finally:
        psql(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)", "postgres", "-q")
    return results


def check_tests(name, text):
    results = []
    tables = "\n".join(line for line in text.splitlines() if line.startswith("| "))
    for kind, file, function in TEST.findall(tables):
        results.append((exists(kind, file, function), "exists", f"{name}: {kind}/{file}" + (f"::{function}" if function else ""), []))
    return results


def main():
    results = []
    for page in PAGES:
        results += check_transcripts(page.name, page.read_text()) + check_tests(page.name, page.read_text())
    for good, what, title, difference in results:
        if not good:
            print(f"    FAILED {what}: {title}", *(f"        {line}" for line in difference), sep="\n")
    failed = sum(not good for good, *_ in results)
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main())
