"""Where a fault belongs: in the function of a name, whichever file of the source holds it.

The source is read as far as names and ends need it: comments and quotes are blanked, brackets are counted. The name is that of
a Rust item (`judge`, `Claims::check`, `LEAP`) or of what an SQL statement creates (`idempotent_saga_step`); an SQL statement
that creates nothing goes by its first word (`REVOKE`).
"""

import re
from dataclasses import dataclass
from functools import lru_cache

PLACES = ("src/**/*.rs", "crates/**/*.rs", "sql/*.sql")

RUST_QUOTES = re.compile(r"""//[^\n]*|/\*(?:[^*]|\*(?!/))*\*/"""
                         r"""|\b[bc]?r(?P<hashes>\#*)".*?"(?P=hashes)|(?:\b[bc])?"(?:\\.|[^"\\])*\""""
                         r"""|(?:\bb)?'(?:\\(?:u\{[^}]*\}|x..|.)|[^\\'\n])'""", re.S)
SQL_QUOTES = re.compile(r"""--[^\n]*|/\*.*?\*/|(?P<dollar>\$\w*\$).*?(?P=dollar)|'(?:''|[^'])*'""", re.S)

RUST_ITEM = re.compile(r"^[ \t]*(?:pub(?:\([^)]*\))?\s+)?(?:(?:default|unsafe|async|const|extern)\s+)*"
                       r"(?:(?P<kind>fn|struct|enum|union|trait|impl|type|const|static|macro_rules!)(?=[\s<])\s*(?:mut\s+)?(?P<name>\w*))", re.M)
ENDED_BY_A_SEMICOLON = ("const", "static", "type")
SQL_STATEMENT = re.compile(r"\S[^;]*(?:;|\Z)")
CREATED = re.compile(r"CREATE\s+(?:OR\s+REPLACE\s+|UNLOGGED\s+|UNIQUE\s+)*\w+\s+(?:IF\s+NOT\s+EXISTS\s+)?(?:\w+\.)?(\w+)", re.I)


@dataclass(frozen=True)
class Item:
    name: str   # `Type::function` for what belongs to a type
    start: int
    end: int

    def is_called(self, anchor):
        return anchor in (self.name, self.name.split("::")[-1])


def source(root):
    """{file: its text} of what the extension is built from, but not of its tests or of the scripts between versions."""
    found = sorted(path for place in PLACES for path in root.glob(place))
    return {str(path.relative_to(root)): path.read_text() for path in found
            if "tests" not in path.parts and path.stem != "tests" and "--" not in path.name}


def items(file, text):
    return rust_items(text) if file.endswith(".rs") else sql_items(text)


def find(anchor, old, texts):
    """The places (file, start) of a text within everything that has this name; None if nothing has."""
    called = [(file, item) for file, text in texts.items() for item in items(file, text) if item.is_called(anchor)]
    # A function within a function of the same name would count its text twice.
    return {place for file, item in called for place in places(file, texts[file], old, item)} if called else None


def places(file, text, old, item):
    start = text.find(old, item.start, item.end)
    while start >= 0:
        yield file, start
        start = text.find(old, start + 1, item.end)


@lru_cache(maxsize=None)
def rust_items(text):
    code = blank(RUST_QUOTES, text)
    found = [(match["kind"], match["name"], match.start(), end_of(code, match)) for match in RUST_ITEM.finditer(code)]
    types = [(implementing(code[start:end]) if kind == "impl" else name, start, end)
             for kind, name, start, end in found if kind in ("impl", "trait")]
    return [Item(qualified(name, start, types), start, end) for kind, name, start, end in found if name and kind != "impl"]


def end_of(code, match):
    """The end of an item: behind its last brace, or its semicolon."""
    depth = 0
    for bracket in re.compile(r"[()\[\]{};]").finditer(code, match.end()):
        depth += {"(": 1, "[": 1, "{": 1, ";": 0}.get(bracket.group(), -1)
        closes = bracket.group() == "}" and match["kind"] not in ENDED_BY_A_SEMICOLON
        if depth == 0 and (closes or bracket.group() == ";"):
            return bracket.end()
    return len(code)


def implementing(code):
    """The type of an `impl`: `impl<T: X<Y>> Trait<T> for path::Type<T> where ... {` is of `Type`."""
    head = re.sub(r"\bwhere\b.*", "", code.split("{", 1)[0].replace("->", ""), flags=re.S)
    while re.search(r"<[^<>]*>", head):
        head = re.sub(r"<[^<>]*>", "", head)
    return re.findall(r"\w+", head)[-1]


def qualified(name, start, types):
    around = [of for of, begins, ends in types if begins < start < ends]
    return f"{around[-1]}::{name}" if around else name


@lru_cache(maxsize=None)
def sql_items(text):
    code = blank(SQL_QUOTES, text)
    statements = [(match, CREATED.match(match.group())) for match in SQL_STATEMENT.finditer(code)]
    return [Item(created[1] if created else match.group().split()[0], match.start(), match.end()) for match, created in statements]


def blank(quotes, text):
    return quotes.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)
