"""What a fault is: a small change of the source, the promise that it breaks, and the tests that must notice."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    file: str
    old: str   # exactly once in the file
    new: str


@dataclass(frozen=True)
class Fault:
    name: str
    promise: str   # that it breaks
    edits: list
    tests: list    # as docs/guarantees.md names them: "regress/strict", "client/lease::a_heartbeat_keeps_the_lease"; "domain" is all of it


def fault(name, promise, edits, tests):
    """`edits` is (file, old, new) or a list of those; `tests` are names, with spaces between."""
    edits = [edits] if isinstance(edits, tuple) else edits
    return Fault(name, promise, [Edit(*edit) for edit in edits], tests.split())


class DoesNotApply(Exception):
    pass


def apply(fault, read):
    """{file: its text with the fault in it}; `read` gives the text of a file."""
    texts = {}
    for edit in fault.edits:
        text = texts.get(edit.file) or read(edit.file)
        if edit.old == edit.new:
            raise DoesNotApply(f"{edit.file}: nothing is changed")
        if text.count(edit.old) != 1:
            raise DoesNotApply(f"{edit.file}: the old text is there {text.count(edit.old)} times: {edit.old.strip()}")
        texts[edit.file] = text.replace(edit.old, edit.new)
    return texts
