"""An operator with psql, a page and the doctor; and the others, who work on the same database."""

import csv
import io
import select
import signal
import subprocess
import time

from page import passage

DEADLINE = 60  # seconds, for whatever is waited for
DOCTOR = passage("## The doctor")


def wait_until(what, condition):
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < DEADLINE, f"waited in vain until {what}"
        time.sleep(0.02)


class Operator:
    """Types into psql as superuser, in one database."""

    def __init__(self, server, database):
        self.server, self.database = server, database

    def types(self, sql):
        return self.server.must(sql, self.database)

    def reads(self, sql):
        """What a statement prints: a dictionary a row."""
        return list(csv.DictReader(io.StringIO(self.types(f"\\pset format csv\n\\pset tuples_only off\n{sql}"))))

    def does(self, beginning, **names):
        """Types what a passage of the page says, with the names of what is wrong here in place of those of its examples; returns what that prints."""
        statements = passage(beginning)
        for example, name in names.items():
            example = example.replace("_", "-")
            assert f"'{example}'" in statements, (beginning, example)
            statements = statements.replace(f"'{example}'", f"'{name}'")
        return self.types(statements)

    def findings(self):
        """By problem, what the doctor says: severity, detail and remedy."""
        return {row["problem"]: row for row in self.reads(DOCTOR)}

    def mends(self, problem):
        """Has the doctor find it, and types the remedies; returns the last of them."""
        found = [row for row in self.reads(DOCTOR) if row["problem"] == problem]
        assert found, f"the doctor does not find {problem}, but {sorted(self.findings())}"
        for row in found:
            self.types(row["remedy"])
        return found[-1]["remedy"]


class Session:
    """Another session: `with Session(...) as session:`. It may be killed."""

    def __init__(self, operator):
        server = operator.server
        self.process = subprocess.Popen([str(server.prefix / "bin" / "psql"), "-X", "-q", "-A", "-t"], env=server.env(operator.database),
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, bufsize=1)

    def tells(self, sql):
        """Sends statements, and waits for the last one's line."""
        self.sends(sql)
        return self.hears()

    def hears(self):
        said, _, _ = select.select([self.process.stdout], [], [], DEADLINE)
        assert said, f"heard nothing for {DEADLINE} s"
        return self.process.stdout.readline().strip()

    def sends(self, sql):
        self.process.stdin.write(sql + "\n")
        self.process.stdin.flush()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.kill()
        self.process.stdin.close()
        self.process.stdout.close()
