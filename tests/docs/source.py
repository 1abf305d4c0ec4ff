"""Whether docs/architecture.md names files and functions that there are.

`keys/claim.rs` is a file in src/, sql/ or the repository, `rules/claim.rs` one of the rules; a bare name is one in the directory that its
paragraph names, if it names one. `claim::judge` and `Call::new` are defined in a file or for a type of that name. Any other name with an underscore
or a capital inside is a word of the source.
"""

import re

QUOTED = re.compile(r"`([^`\n]+)`")
FILE = re.compile(r"[\w./-]+\.(?:rs|sql|py|md)")
DIRECTORY = re.compile(r"[\w./-]+/")
QUALIFIED = re.compile(r"(\w+)::(\w+)")
NAME = re.compile(r"[A-Za-z]\w*(?:_\w+|[a-z][A-Z]\w*)")
BASES = ("", "src/", "sql/", "crates/rules/")
ROOM = re.compile(r"`((?:src|crates/rules/src)/(?:\w+/)?)`")
KINDS = r"(?:fn|struct|enum|trait|type|const|static|mod)"


def sources(root):
    """{path: text} of everything that the page may name."""
    paths = [path for folder in ("src", "crates/rules/src", "sql", "tests") for path in sorted((root / folder).rglob("*"))]
    return {str(path.relative_to(root)): path.read_text() for path in paths if path.suffix in (".rs", ".sql", ".py")}


def exists(root, name, room):
    if room and (root / room / name).exists():
        return True
    names = (name, "src/" + name.removeprefix("rules/")) if name.startswith("rules/") else (name,)
    return ("/" in name or not room) and any((root / base / each).exists() for base in BASES for each in names)


def defines(texts, of, name):
    there = re.compile(rf"\b{KINDS} {name}\b")
    within = re.compile(rf"\b(?:struct|enum|trait|type) {of}\b")
    return any((path.rsplit("/", 1)[-1] == f"{of}.rs" or within.search(text)) and there.search(text) for path, text in texts.items())


def check_source(root, page):
    texts = sources(root)
    results = []
    for paragraph in re.split(r"\n\s*\n", page.read_text()):
        room = next(iter(ROOM.findall(paragraph)), None)
        for quoted in QUOTED.findall(paragraph):
            qualified = QUALIFIED.fullmatch(quoted)
            if FILE.fullmatch(quoted) or DIRECTORY.fullmatch(quoted):
                results.append((exists(root, quoted, room), "is there", f"{page.name}: {quoted}", []))
            elif qualified:
                results.append((defines(texts, *qualified.groups()), "is defined", f"{page.name}: {quoted}", []))
            elif NAME.fullmatch(quoted):
                word = re.compile(rf"\b{quoted}\b")
                results.append((any(word.search(text) for text in texts.values()), "is a word of the source", f"{page.name}: {quoted}", []))
    return results
