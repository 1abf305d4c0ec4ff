"""Whether every link of a page to a file of this repository, and to a heading in it, leads somewhere."""

import re

LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.M)
FENCED = re.compile(r"^```.*?^```$", re.M | re.S)


def anchor(heading):
    """As GitHub makes it: lower case, no punctuation, hyphens for blanks."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page):
    return {anchor(heading) for heading in HEADING.findall(FENCED.sub("", page.read_text()))}


def check_links(root, pages):
    results = []
    for page in pages:
        for target in LINK.findall(FENCED.sub("", page.read_text())):
            if "://" in target:
                continue
            file, _, fragment = target.partition("#")
            linked = (page.parent / file).resolve() if file else page
            good = linked.exists() and root in [linked, *linked.parents] and (not fragment or fragment in anchors(linked))
            results.append((good, "leads somewhere", f"{page.name}: {target}", []))
    return results
