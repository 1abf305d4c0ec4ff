"""The rooms of the house (docs/architecture.md): reads the `use` lines and paths of the sources, and fails on an import from a
lower room to a higher one and on a circle of files."""

import re

import pytest

from common import ROOT

SRC = ROOT / "src"
RULES = ROOT / "crates" / "rules" / "src"

# What each room may know, beside itself and the crate `rules`. The crate itself knows nothing: it does not depend on the rest.
MAY_KNOW = {
    "pg": set(),
    "settings": set(),
    "scan": {"pg", "settings"},
    "stats": {"pg"},
    "session": {"pg", "stats", "settings"},
    "tables": {"pg", "session", "stats", "settings"},
    "keys": {"pg", "session", "stats", "tables", "settings"},
    "api": {"pg", "session", "stats", "tables", "keys", "settings"},
    "worker": {"pg", "stats", "tables", "settings"},
}
# The entrance knows every room by name, and tests may look at anything.
OUTSIDE = {"lib", "tests"}
PATH = re.compile(r"\bcrate((?:::\w+)+)(?:::\{([^;]*?)\})?", re.S)
SUPER = re.compile(r"\bsuper((?:::\w+)+)(?:::\{([^;]*?)\})?", re.S)
WITHOUT = re.compile(r"//[^\n]*|#\[cfg\(test\)\]\s*(?:#\[path[^\]]*\]\s*)?mod tests;", re.S)


def module_of(path, root):
    parts = list(path.relative_to(root).with_suffix("").parts)
    return tuple(parts[:-1] if parts[-1] in ("mod", "lib") else parts)


def modules(root):
    """{module: file}, without the files of tests."""
    return {module_of(path, root): path for path in sorted(root.rglob("*.rs"))
            if "tests" not in path.relative_to(root).with_suffix("").parts}


def leaves(head, group):
    """The full paths that `head::{group}` names; nested groups included."""
    if group is None:
        return [head]
    found, depth, item = [], 0, ""
    for character in group + ",":
        depth += (character == "{") - (character == "}")
        if character == "," and depth == 0:
            name = item.strip()
            if name:
                inner = re.match(r"([\w:]+)::\{(.*)\}$", name, re.S)
                if inner:
                    found += leaves(head + tuple(inner.group(1).split("::")), inner.group(2))
                else:
                    parts = tuple(part for part in name.split(" as ")[0].strip().split("::") if part != "self")
                    found.append(head + parts)
            item = ""
        else:
            item += character
    return found


def imports(module, path, known):
    """The modules of the same crate that a file names."""
    text = WITHOUT.sub("", path.read_text())
    found = set()
    for pattern, base in ((PATH, ()), (SUPER, module[:-1])):
        for match in pattern.finditer(text):
            head = base + tuple(match.group(1).strip(":").split("::"))
            for leaf in leaves(head, match.group(2)):
                while leaf and leaf not in known:
                    leaf = leaf[:-1]
                if leaf and leaf != module:
                    found.add(leaf)
    return found


def circles(graph):
    """The groups of files that import each other, directly or not (Tarjan)."""
    index, low, stack, on, found, counter = {}, {}, [], set(), [], [0]

    def visit(node):
        index[node] = low[node] = counter[0]
        counter[0] += 1
        stack.append(node)
        on.add(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in on:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = []
            while True:
                other = stack.pop()
                on.discard(other)
                group.append(other)
                if other == node:
                    break
            if len(group) > 1:
                found.append(sorted(group))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def graph_of(root):
    known = modules(root)
    return {module: imports(module, path, known) for module, path in known.items() if module}


GRAPH = graph_of(SRC)
ROOMS = sorted({module[0] for module in GRAPH} - OUTSIDE)


@pytest.mark.parametrize("name", ROOMS)
def test_room_knows_no_room_above_it(name):
    upwards = [f"{'::'.join(module)} -> {'::'.join(other)}" for module, others in sorted(GRAPH.items()) if module[0] == name
               for other in sorted(others) if other[0] != name and other[0] not in MAY_KNOW.get(name, ())]
    assert not upwards, "\n".join(upwards)


@pytest.mark.parametrize("name", ("src", "crates/rules"))
def test_no_circle_of_files(name):
    found = circles(GRAPH if name == "src" else graph_of(RULES))
    assert not found, "\n".join(" <-> ".join("::".join(module) for module in group) for group in found)
