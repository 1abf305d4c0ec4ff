"""What became of each fault, and the table of it: tests/faults/RESULTS.md."""

import re

from common import seconds

HEAD = """# What became of each fault

Written by `make faults`; a fault that was tried again with `make faults ONLY=its-name` has a new row. Each is put into the
source as the files beside this say, the extension is built, and the tests that are named there run, the cheapest first, until
one is red: that one is named here, with how many more were red in the same suite. Without a fault all of them pass. The time
is that of the build and of the tests, on two cores that others used as well.

| fault | the promise that it breaks | noticed by | time |
|---|---|---|---:|
"""
ROW = re.compile(r"^\| (\S+) \|.*\|$", re.M)


class Result:
    def __init__(self, fault, red, took, error):
        self.fault, self.red, self.took, self.error = fault, red, took, error

    @property
    def is_caught(self):
        return self.red is not None

    def line(self):
        name, took = self.fault.name, seconds(self.took)
        if self.error:
            return f"ERROR    {name}: {self.error}"
        return f"caught   {name} by {self.by()} ({took})" if self.red else f"SURVIVED {name} ({took})"

    def by(self):
        return f"`{self.red.first}`" + (f" and {self.red.more} more" if self.red.more else "")

    def row(self):
        by = "**error**" if self.error else self.by() if self.red else "**nothing**"
        return f"| {self.fault.name} | {self.fault.promise} | {by} | {self.took:.0f} s |"


def write(path, faults, results):
    """Puts new rows in the place of old ones, in the order of the faults; what is no fault any more goes."""
    rows = {match.group(1): match.group(0) for match in ROW.finditer(path.read_text() if path.exists() else "")}
    rows.update({result.fault.name: result.row() for result in results})
    path.write_text(HEAD + "".join(f"{rows[fault.name]}\n" for fault in faults if fault.name in rows))
