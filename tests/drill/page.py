"""docs/operating.md, as its reader uses it: the statements that a passage tells to type."""

import re

from common import ROOT

PAGE = ROOT / "docs" / "operating.md"
SQL = re.compile(r"^```sql\n(.*?)^```$", re.M | re.S)
# A passage ends where the next one begins: at a paragraph that begins in bold or italics, or at a heading.
NEXT = re.compile(r"^(?:\*\w|\*\*|#+ )", re.M)


def passage(beginning):
    """The SQL below a paragraph or heading that begins so."""
    text = PAGE.read_text()
    places = [found.start() for found in re.finditer(rf"^{re.escape(beginning)}", text, re.M)]
    assert len(places) == 1, f"{PAGE.name} has {len(places)} passages that begin with {beginning!r}"
    text = text[places[0] + len(beginning):]
    following = NEXT.search(text)
    found = SQL.findall(text[:following.start()] if following else text)
    assert found, f"{PAGE.name}: no statement below {beginning!r}"
    return "".join(found)
