"""A version that never was, so that there is something to update from: today's, without one function and one column.

Its library is today's with the older number. Both scripts, that of the older version and the update to today's, are made of the
script that a build has made.
"""

import re
import shutil

from build import built, extension_version, put
from common import EXTENSION, ROOT, checkout_dir, target_dir
from postgres import prefix as private_prefix

VERSION = "0.9.0"
FUNCTION = "idempotent_unlock"
# One that the library does not read by its position: it would not do without such a column.
TABLE, COLUMN = "idempotent.saga_run", "request"

# As every update script must: tells all sessions, and fails in a session whose library is another version's.
TELL = "UPDATE idempotent.operation SET name = name WHERE false;"

QUOTED = re.compile(r"--[^\n]*|/\*.*?\*/|(?P<dollar>\$\w*\$).*?(?P=dollar)|'(?:''|[^'])*'", re.S)
OF_THE_FUNCTION = re.compile(rf"(?:CREATE|COMMENT ON) FUNCTION {FUNCTION}\b")
# In the list of a REVOKE, with the comma before or behind it.
LISTED = re.compile(rf",\s*{FUNCTION}\([^)]*\)|{FUNCTION}\([^)]*\),\s*")
OF_THE_TABLE = re.compile(rf"CREATE TABLE {re.escape(TABLE)} \(")
DECLARED = re.compile(rf"^ +{COLUMN} +([^,\n]+),\n", re.M)
OF_THE_COLUMN = re.compile(rf"COMMENT ON COLUMN {re.escape(TABLE)}\.{COLUMN} ")


def update_script():
    return f"{EXTENSION}--{VERSION}--{extension_version()}.sql"


def statements(script):
    """Each with its semicolon and what stands before it."""
    blank = QUOTED.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), script)
    ends = [0, *(match.end() for match in re.finditer(";", blank)), len(script)]
    return [script[begin:end] for begin, end in zip(ends, ends[1:])]


def derive(script):
    """The script of the older version, and that of the update."""
    older, update = [], []
    for statement in statements(script):
        text = QUOTED.sub(lambda match: "" if match.group().startswith(("--", "/*")) else match.group(), statement).strip()
        if OF_THE_FUNCTION.match(text) or OF_THE_COLUMN.match(text):
            update.append(text)
            continue
        if OF_THE_TABLE.match(text):
            update.append(f"ALTER TABLE {TABLE} ADD COLUMN {COLUMN} {DECLARED.search(statement).group(1)};")
            statement = DECLARED.sub("", statement)
        elif text.startswith("REVOKE ") and FUNCTION in text:
            update.append(f"REVOKE ALL ON FUNCTION {FUNCTION} FROM PUBLIC;")
            statement = LISTED.sub("", statement)
        older.append(statement)
    return "".join(older), "\n".join([*update, TELL, ""])


def add_scripts(prefix):
    """The older version's script and the update from it, beside the current version's."""
    scripts = prefix / "share" / "extension"
    older, update = derive((scripts / f"{EXTENSION}--{extension_version()}.sql").read_text())
    for name, text in ((f"{EXTENSION}--{VERSION}.sql", older), (update_script(), update)):
        (scripts / name).unlink(missing_ok=True)  # a link, perhaps
        (scripts / name).write_text(text)


def install_older(major, current):
    """A prefix with the older version and nothing else of the extension; `current` is that of the current version."""
    prefix = private_prefix(checkout_dir() / f"pg{major}-older", major)
    put(built(prefix / "bin" / "pg_config", numbered_tree()), prefix)
    scripts = prefix / "share" / "extension"
    current = (current / "share" / "extension" / f"{EXTENSION}--{extension_version()}.sql").read_text()
    (scripts / f"{EXTENSION}--{VERSION}.sql").write_text(derive(current)[0])
    return prefix


def numbered_tree():
    """The checkout once more, by links, with the older number in place of the current one.

    The builds share a target directory, and cargo names a library there after nothing but its crate: this one has another name, or
    either build could be taken for the other.
    """
    tree = target_dir() / "upgrade" / "tree"
    shutil.rmtree(str(tree), ignore_errors=True)
    tree.mkdir(parents=True)
    number = re.compile(rf'^(name = "{EXTENSION}"\nversion = )"{re.escape(extension_version())}"$', re.M)
    for path in ROOT.iterdir():
        if path.name in ("Cargo.toml", "Cargo.lock"):
            text, found = number.subn(rf'\1"{VERSION}"', path.read_text())
            assert found == 1, path
            (tree / path.name).write_text(text.replace("[lib]\n", f'[lib]\nname = "{EXTENSION}_older"\n'))
        elif path != target_dir() and path.name != ".git":
            (tree / path.name).symlink_to(path)
    return tree
