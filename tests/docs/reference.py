"""Whether the tables of docs/reference.md are those of the extension: functions with their arguments, settings with their defaults."""

import re

FUNCTION = re.compile(r"^\| `(idempotent_\w+)\(([^`]*)\)` \|", re.M)
SETTING = re.compile(r"^\| `(\w+)` \| (.*?) \|", re.M)
SERVER_SETTING = re.compile(r"^\| `(idempotent\.\w+)` \| (.*?) \|", re.M)

# name(required [, optional]), as the table writes it: the arguments that a caller passes, in their order.
FUNCTIONS = """
SELECT p.proname, coalesce(string_agg(a.name, ', ' ORDER BY a.n) FILTER (WHERE a.n <= p.pronargs - p.pronargdefaults), ''),
       coalesce(string_agg(a.name, ', ' ORDER BY a.n) FILTER (WHERE a.n > p.pronargs - p.pronargdefaults), '')
  FROM pg_depend AS d
  JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'pg_idempotent'
  JOIN pg_proc AS p ON p.oid = d.objid AND p.pronamespace = e.extnamespace
  LEFT JOIN LATERAL (SELECT quote_ident(name) AS name, n FROM unnest(p.proargnames) WITH ORDINALITY AS u (name, n)
                      WHERE p.proargmodes IS NULL OR p.proargmodes[n] IN ('i', 'v')) AS a ON true
 WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
 GROUP BY p.oid
"""
# An interval as people write it, whatever IntervalStyle says.
OPERATION = """
SELECT a.attname, CASE WHEN v.value IS NULL THEN 'none' WHEN a.atttypid <> 'interval'::regtype THEN v.value
                       WHEN i.seconds % 3600 = 0 THEN i.seconds / 3600 || ' hours' ELSE i.seconds / 60 || ' minutes' END
  FROM pg_attribute AS a
  LEFT JOIN pg_attrdef AS x ON x.adrelid = a.attrelid AND x.adnum = a.attnum
 CROSS JOIN LATERAL (SELECT regexp_replace(pg_get_expr(x.adbin, x.adrelid), '^''(.*)''::.*$', '\\1')) AS v (value)
 CROSS JOIN LATERAL (SELECT CASE WHEN a.atttypid = 'interval'::regtype THEN extract(epoch FROM v.value::interval)::integer END) AS i (seconds)
 WHERE a.attrelid = 'idempotent.operation'::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> 'name'
"""
# As SHOW prints it, with its unit.
SERVER = "SELECT name, current_setting(name) FROM pg_settings WHERE name LIKE 'idempotent.%' AND source = 'default'"


def section(text, heading):
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def signature(name, required, optional):
    inside = required + (f" [, {optional}]" if optional and required else f"[{optional}]" if optional else "")
    return f"{name}({inside})"


def compare(what, written, there):
    results = [(True, "agrees", f"{what}: {entry}", []) for entry in sorted(written & there)]
    results += [(False, "is in the extension", f"{what}: {entry}", []) for entry in sorted(written - there)]
    return results + [(False, "is in the table", f"{what}: {entry}", []) for entry in sorted(there - written)]


def check_functions(text, query):
    # There is one table of functions: what it holds is searched for in the whole page.
    written = {f"{name}({arguments})" for name, arguments in FUNCTION.findall(text)}
    return compare("function", written, {signature(*row) for row in query(FUNCTIONS)})


def check_settings(text, query):
    results = []
    for heading, pattern, sql in (("Settings of an operation", SETTING, OPERATION), ("Settings of the server", SERVER_SETTING, SERVER)):
        written = {(name, default) for name, default in pattern.findall(section(text, heading))}
        there = {tuple(row) for row in query(sql)}
        results += compare("setting", {" ".join(row) for row in written}, {" ".join(row) for row in there})
    return results
