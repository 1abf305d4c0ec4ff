"""Whether what a driver was answered is what calls.json says, and whether calls.json has all of the surface."""

import json
import re

# {function: its arguments}, in their order, of what the extension has outside of its schema `idempotent`.
SURFACE = """
SELECT json_object_agg(p.proname, coalesce((SELECT json_agg(a.name ORDER BY a.n) FROM unnest(p.proargnames) WITH ORDINALITY AS a (name, n)
                                             WHERE p.proargmodes IS NULL OR p.proargmodes[n] = 'i'), '[]'))
  FROM pg_depend AS d
  JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'pg_idempotent'
  JOIN pg_proc AS p ON p.oid = d.objid AND p.pronamespace <> 'idempotent'::regnamespace
 WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
"""
IS = {
    "anything": lambda found: True,
    "bigint": lambda found: re.fullmatch(r"\d+", str(found)),
    "boolean": lambda found: isinstance(found, bool),
    "seconds": lambda found: isinstance(found, (int, float)) and found > 0,
    # Some drivers give nothing for it, others an empty text.
    "void": lambda found: found in (None, ""),
}


def surface(server, database):
    return json.loads(server.must(SURFACE, database))


def numbers(call):
    return [int(number) for number in re.findall(r"\$(\d+)", call["sql"])]


def casts(text):
    """Each with whether it is one of a parameter."""
    return {(bool(of), cast) for of, cast in re.findall(r"(\$\d+)?((?:::[\w.]+(?:\[\])?)+)", text)}


def arguments(call, names):
    """The arguments of its function that a call passes: the first ones by position, others by name."""
    inside = re.search(rf"\b{call['function']}\((.*)\)", call["sql"])
    assert inside, f"{call['sql']} does not call {call['function']}"
    passed = [part.strip() for part in split(inside.group(1)) if part.strip()]
    named = [re.match(r'"?(\w+)"?\s*=>', part) for part in passed]
    return {name.group(1) if name else names[place] for place, name in enumerate(named)}


def split(text):
    """At the commas that are within no parentheses, as far as the closing one."""
    depth, parts = 0, [""]
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            break
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def faults(transactions, lines):
    """{function: what is wrong with its calls}, of the lines that a program has printed for the transactions."""
    found = {}
    for number, transaction in enumerate(transactions):
        ended = {"answers": [], "failed": "the program has ended", "sqlstate": None}
        for call, wrong in faults_of(transaction, lines[number] if number < len(lines) else ended):
            found.setdefault(call["function"], []).append(f"{call['sql']}\n    {wrong}")
    return found


def faults_of(transaction, line):
    calls, answers = transaction["calls"], line["answers"]
    for call, answer in zip(calls, answers):
        if "gives" not in call or not agree(call["gives"], answer):
            yield call, f"gives {spelled(answer)}\n    not   {spelled(call.get('gives', call.get('raises')))}"
    # The one that failed, and those that were not made for it; all of them if it was the COMMIT.
    unmade = calls[len(answers):]
    if line["failed"] is None and not unmade or unmade and unmade[0].get("raises", "") == line["sqlstate"]:
        return
    for call in unmade or calls:
        yield call, f"fails in \"{transaction.get('transaction') or transaction['alone']}\": {line['sqlstate']} {line['failed']}"


def spelled(value):
    return json.dumps(value, ensure_ascii=False)


def agree(wanted, found):
    """Whether a value is the one that is wanted: JSON may come as text, a bigint too, and so do bytes, in hexadecimal digits."""
    if isinstance(wanted, dict) and len(wanted) == 1:
        (kind, what), = wanted.items()
        if kind == "is":
            return bool(IS[what](found))
        if kind == "like":
            return isinstance(found, str) and bool(re.search(what, found))
        if kind == "bytes":
            return found == what
        if kind == "json":
            return found in (what, json.dumps(what))
        if kind == "has":
            return isinstance(parsed(found), dict) and what.items() <= parsed(found).items()
    if isinstance(wanted, dict):
        return parsed(found) == wanted
    if isinstance(wanted, list):
        found = parsed(found)
        return isinstance(found, list) and len(found) == len(wanted) and all(map(agree, wanted, found))
    if isinstance(wanted, (int, float)) and not isinstance(wanted, bool):
        return not isinstance(found, bool) and found is not None and float(found) == wanted
    return type(found) is type(wanted) and found == wanted


def parsed(found):
    return json.loads(found) if isinstance(found, str) and found[:1] in ("{", "[") else found
