"""Whether an update leads to the same schema as a new installation: everything that Postgres' catalogs hold of it."""

import difflib
import re

from harness import OLD, Wrong
from older import TABLE

# The relations of the extension, with their indexes and TOAST tables; and whatever else is a member of it.
WITH = """
SET search_path = pg_catalog;
CREATE TEMP TABLE member AS
  SELECT classid, objid FROM pg_depend WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass
    AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_idempotent');
CREATE TEMP TABLE relation AS
  SELECT objid AS oid FROM member WHERE classid = 'pg_class'::regclass
  UNION SELECT indexrelid FROM pg_index WHERE indrelid IN (SELECT objid FROM member WHERE classid = 'pg_class'::regclass)
  UNION SELECT typrelid FROM pg_type WHERE typrelid <> 0 AND oid IN (SELECT objid FROM member WHERE classid = 'pg_type'::regclass);
"""

# What differs between two databases without meaning anything: numbers of objects, sizes, and expressions, which keep their place in
# the script; what they say is asked for by functions.
VARIES = ("oid", "relfilenode", "reltype", "reltoastrelid", "relpages", "reltuples", "relallvisible", "relallfrozen", "relfrozenxid",
          "relminmxid", "attrelid", "conindid", "conrelid", "indexrelid", "indrelid", "seqrelid", "tgrelid", "tgconstraint", "tgfoid",
          "typarray", "typrelid", "typelem", "proargdefaults", "conbin", "indpred", "indexprs", "extconfig", "attnum", "indkey", "conkey")
# A column that an update adds is the last one, wherever a new installation has it.
ORDER = f"CASE WHEN attrelid = '{TABLE}'::regclass THEN 0 ELSE attnum END"
# These are oids with a name.
NAMES = {"relnamespace": "regnamespace", "connamespace": "regnamespace", "typnamespace": "regnamespace", "pronamespace": "regnamespace",
         "relowner": "regrole", "typowner": "regrole", "proowner": "regrole", "nspowner": "regrole", "extowner": "regrole",
         "extnamespace": "regnamespace", "atttypid": "regtype", "prorettype": "regtype", "reloftype": "regtype", "seqtypid": "regtype",
         "attcollation": "regcollation"}


def row(alias):
    """A row of a catalog as text, without what varies, and with names in place of oids."""
    names = ", ".join(f"'{column}', ({alias}->>'{column}')::oid::{kind}" for column, kind in NAMES.items())
    gone = ", ".join(f"'{column}'" for column in (*VARIES, *NAMES))
    return (f"(({alias} - ARRAY[{gone}]) || "
            f"(SELECT coalesce(jsonb_object_agg(key, value), '{{}}') FROM jsonb_each(jsonb_build_object({names})) WHERE {alias} ? key))")


QUERIES = {
    "members": "SELECT pg_describe_object(classid, objid, 0) FROM member",
    "dependencies": """SELECT pg_describe_object(classid, objid, objsubid), deptype, pg_describe_object(refclassid, refobjid, refobjsubid)
        FROM pg_depend AS d WHERE (classid, objid) IN (SELECT classid, objid FROM member)
        OR (refclassid, refobjid) IN (SELECT classid, objid FROM member)""",
    "extension": f"""SELECT {row('j')}, extconfig::regclass[], obj_description(oid, 'pg_extension')
        FROM pg_extension AS e, to_jsonb(e) AS j WHERE extname = 'pg_idempotent'""",
    "schema": f"SELECT {row('j')}, obj_description(oid) FROM pg_namespace AS n, to_jsonb(n) AS j WHERE nspname = 'idempotent'",
    "relation": f"""SELECT c.oid::regclass, {row('j')}, obj_description(c.oid, 'pg_class'), reltoastrelid <> 0
        FROM pg_class AS c JOIN relation USING (oid), to_jsonb(c) AS j""",
    "column": f"""SELECT attrelid::regclass, {ORDER}, {row('j')}, col_description(attrelid, attnum), pg_get_expr(adbin, adrelid)
        FROM pg_attribute AS a JOIN relation ON oid = attrelid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum,
        to_jsonb(a) AS j""",
    "constraint": f"""SELECT conrelid::regclass, {row('j')}, pg_get_constraintdef(c.oid), obj_description(c.oid)
        FROM pg_constraint AS c JOIN relation ON relation.oid = conrelid, to_jsonb(c) AS j""",
    "index": f"""SELECT {row('j')}, pg_get_indexdef(indexrelid) FROM pg_index AS i JOIN relation ON oid = indrelid, to_jsonb(i) AS j""",
    "view": """SELECT oid::regclass, to_char(number, '000'), line
        FROM relation, string_to_table(pg_get_viewdef(oid), E'\\n') WITH ORDINALITY AS t (line, number)""",
    "sequence": f"SELECT seqrelid::regclass, {row('j')} FROM pg_sequence AS s JOIN relation ON oid = seqrelid, to_jsonb(s) AS j",
    # Without the tree of its condition, which before Postgres 17 holds where in the script each piece stands.
    "trigger": f"""SELECT {row('j')}, pg_get_triggerdef(t.oid), obj_description(t.oid)
        FROM pg_trigger AS t JOIN relation ON relation.oid = tgrelid, LATERAL (SELECT to_jsonb(t) - 'tgqual') AS shown (j)""",
    "function": f"""SELECT p.oid::regprocedure, {row('j')}, pg_get_functiondef(p.oid), obj_description(p.oid, 'pg_proc')
        FROM pg_proc AS p JOIN member ON objid = p.oid AND classid = 'pg_proc'::regclass,
             LATERAL (SELECT to_jsonb(p) || jsonb_build_object('proargtypes', p.proargtypes::oid[]::regtype[]::text,
                                                               'proallargtypes', p.proallargtypes::regtype[]::text)) AS named (j)""",
    "type": f"""SELECT {row('j')}, obj_description(t.oid, 'pg_type')
        FROM pg_type AS t JOIN member ON objid = t.oid AND classid = 'pg_type'::regclass, to_jsonb(t) AS j""",
    # What pg_dump compares grants with.
    "initial rights": """SELECT pg_describe_object(classoid, objoid, objsubid), privtype, initprivs FROM pg_init_privs
        WHERE (classoid, objoid) IN (SELECT classid, objid FROM member)""",
}


def described(server, database):
    """One line per object and property, in order."""
    lines = []
    for kind, query in QUERIES.items():
        found = server.must(f"{WITH}\nSELECT replace(q::text, E'\\n', ' ') FROM ({query}) AS q;", database)
        # The one kind of object that is named after an oid.
        lines += sorted(f"{kind}: {line}" for line in re.sub(r"pg_toast_\d+", "pg_toast", found).splitlines())
    return lines


def an_updated_schema_is_that_of_a_new_one(server):
    new, updated = server.database(), server.database(OLD)
    server.update(updated)
    expected = described(server, new)
    for kind in QUERIES:
        if not any(line.startswith(f"{kind}: ") for line in expected):
            raise Wrong(f"the catalogs hold no {kind}")
    difference = list(difflib.unified_diff(expected, described(server, updated), "new", "updated", lineterm="", n=0))
    if difference:
        raise Wrong("\n".join(difference))


def an_update_changes_something(server):
    """Or the comparison above would compare nothing."""
    new, old = server.database(), server.database(OLD)
    if described(server, new) == described(server, old):
        raise Wrong(f"a schema of version {OLD} looks like a new one")


TESTS = (an_updated_schema_is_that_of_a_new_one, an_update_changes_something)
