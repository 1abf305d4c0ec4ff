"""What a fault is: a small change of the source, the promise that it breaks, and the tests that must notice."""

from dataclasses import dataclass

from anchors import find


@dataclass(frozen=True)
class Edit:
    anchor: str   # the function that it changes, as anchors.py names it: no file, so that the function may move
    old: str      # exactly once in all functions of that name
    new: str


@dataclass(frozen=True)
class Fault:
    name: str
    promise: str   # that it breaks
    edits: list
    tests: list    # as docs/guarantees.md names them: "regress/strict", "client/lease::a_heartbeat_keeps_the_lease"; "domain" is all of it


def fault(name, promise, edits, tests):
    """`edits` is (anchor, old, new) or a list of those; `tests` are names, with spaces between."""
    edits = [edits] if isinstance(edits, tuple) else edits
    return Fault(name, promise, [Edit(*edit) for edit in edits], tests.split())


class DoesNotApply(Exception):
    pass


def apply(fault, texts):
    """{file: its text with the fault in it}, of the files that change; `texts` is the whole source, as anchors.source reads it."""
    changed = {}
    for edit in fault.edits:
        now = {**texts, **changed}
        file, start = place(edit, now)
        changed[file] = now[file][:start] + edit.new + now[file][start + len(edit.old):]
    return changed


def place(edit, texts):
    if edit.old == edit.new:
        raise DoesNotApply(f"{edit.anchor}: nothing is changed")
    found = find(edit.anchor, edit.old, texts)
    if found is None:
        raise DoesNotApply(f"the source has no {edit.anchor}")
    if len(found) != 1:
        raise DoesNotApply(f"{edit.anchor}: the old text is there {len(found)} times: {edit.old.strip()}")
    return found.pop()
