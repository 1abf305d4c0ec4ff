"""The rooms of the house (docs/architecture.md): reads the `use` lines and paths of the sources, and fails on an import from a
lower room to a higher one and on a circle of files."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"
RULES = ROOT / "crates" / "rules" / "src"

# What each room may know, beside itself and the crate `rules`. The crate itself knows nothing: it does not depend on the rest.
MAY_KNOW = {
    "pg": set(),
    "settings": set(),
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


def name(module):
    return "::".join(module)


def main():
    results = []
    graph = graph_of(SRC)
    for room in sorted(set(module[0] for module in graph) - OUTSIDE):
        upwards = [f"{name(module)} -> {name(other)}" for module, others in sorted(graph.items()) if module[0] == room
                   for other in sorted(others) if other[0] != room and other[0] not in MAY_KNOW.get(room, ())]
        results.append((f"{room} knows no room above it", upwards))
    for title, tree in (("src", graph), ("crates/rules", graph_of(RULES))):
        results.append((f"no circle of files in {title}", [" <-> ".join(map(name, group)) for group in circles(tree)]))
    failed = 0
    for title, flaws in results:
        print(f"    {'FAILED' if flaws else 'ok    '} {title}")
        for flaw in flaws:
            print(f"        {flaw}")
        failed += bool(flaws)
    print(f"{len(results) - failed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
