"""The source distribution for PGXN: what git tracks, and META.json, which is checked against the specification (https://pgxn.org/meta/spec.txt)."""

import json
import os
import re
import time
import zipfile

from build import extension_version
from common import EXTENSION, ROOT, Failure, output_of

REQUIRED = {"abstract", "license", "maintainer", "meta-spec", "name", "provides", "version"}
OPTIONAL = {"description", "generated_by", "no_index", "prereqs", "release_status", "resources", "tags"}
VERSION = re.compile(r"(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*)){2}(?:-[0-9A-Za-z.-]+)?")
NOT_SHIPPED = (".ci/", ".gitignore")


def meta(version):
    return (ROOT / "META.json.in").read_text().replace("@CARGO_VERSION@", version)


def flaws(text, names):
    """What is wrong with a META.json of a distribution that holds these files."""
    try:
        found = json.loads(text)
    except ValueError as error:
        return [f"is no JSON: {error}"]
    wrong = [f"lacks {field}" for field in sorted(REQUIRED - set(found))]
    wrong += [f"has the unknown field {field}" for field in sorted(set(found) - REQUIRED - OPTIONAL) if not re.match(r"x_", field, re.I)]
    if wrong:
        return wrong
    if not re.fullmatch(r"[^\s/\\\x00-\x1f]{2,}", found["name"]):
        wrong.append(f"{found['name']} is no name")
    if found["meta-spec"].get("version") != "1.0.0":
        wrong.append("is not of version 1.0.0 of the specification")
    for extension, provided in found["provides"].items():
        for field in ("file", "docfile"):
            if field in provided and provided[field] not in names:
                wrong.append(f"{extension}: {field} {provided[field]} is not in the distribution")
        if provided.get("version") != found["version"] or "file" not in provided:
            wrong.append(f"{extension}: lacks its file, or is of another version than the distribution")
    versions = [found["version"], *(version for phase in found.get("prereqs", {}).values() for kind in phase.values() for version in kind.values())]
    return wrong + [f"{version} is no version" for version in versions if not VERSION.fullmatch(str(version))]


def tracked():
    if not (ROOT / ".git").exists():
        raise Failure("the source distribution is made of what git tracks: this is no checkout")
    names = output_of(["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"], cwd=str(ROOT)).split("\0")
    return sorted(name for name in names if name and not name.startswith(NOT_SHIPPED) and os.path.exists(ROOT / name))


def distribution(into, moment):
    """The path of the zip."""
    version = extension_version()
    names = tracked()
    text = meta(version)
    wrong = flaws(text, names)
    if wrong:
        raise Failure("META.json.in " + "; ".join(wrong))
    path = into / f"{EXTENSION}-{version}.zip"
    when = time.gmtime(moment)[:6]
    with zipfile.ZipFile(str(path), "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ["META.json", *names]:
            member = zipfile.ZipInfo(f"{EXTENSION}-{version}/{name}", when)
            member.compress_type = zipfile.ZIP_DEFLATED
            executable = name != "META.json" and os.access(ROOT / name, os.X_OK)
            member.external_attr = (0o100755 if executable else 0o100644) << 16
            archive.writestr(member, text if name == "META.json" else (ROOT / name).read_bytes())
    return path
