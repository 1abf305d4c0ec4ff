"""The SQL of a page, and what psql prints for it."""

import difflib
import re
import subprocess

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
QUOTED = re.compile(r"^> ?", re.M)
# A statement in Python: one string, with %s where the driver puts a parameter.
STATEMENT = re.compile(r'"((?:SELECT|INSERT|UPDATE|DELETE)\b[^"]*)"')


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


def played(page, text, psql):
    """[(whether a block does what it says, "runs" or "prints", which, the difference)] of the blocks of a page, in order."""
    results = []
    for language, sql, expected in transcripts(text):
        printed = psql(sql)
        if expected is None:
            good = bool(sql) and not any(line.startswith(("ERROR", "FATAL")) for line in printed)
            difference = printed
        else:
            wanted = [line.rstrip() for line in expected.strip("\n").splitlines()]
            difference = list(difflib.unified_diff(wanted, printed, page, "psql", lineterm="", n=1))
            good = not difference
        first = sql.strip().splitlines()[0] if sql.strip() else f"a {language} block without a statement"
        results.append((good, "runs" if expected is None else "prints", f"{page}: {first}", difference))
    return results
