"""The calls that several benchmarks measure, each by a way of its own: their names, what is compared with what, and the targets."""

from measure import compare

NAMES = {
    "replay": "replay",
    "claim": "claim of a finished key",
    "run": "run, with a handler of one insert",
    "retry": "run of a finished key",
    "block": "BEGIN, claim, insert, complete, COMMIT",
    "block-pipelined": "BEGIN, claim, insert, complete, COMMIT, pipelined",
    "select": "`SELECT` by primary key",
    "constant": "`SELECT` of a constant",
    "hand-run": "the PL/pgSQL function by hand",
    "handler": "the bare handler",
    "hand-block": "BEGIN, insert on conflict, insert, update, COMMIT",
    "hand-block-pipelined": "BEGIN, insert on conflict, insert, update, COMMIT, pipelined",
    "redis-first": "`SET NX EX`, insert in Postgres, `SET`",
    "redis-first-logging": "`SET NX EX`, insert in Postgres, `SET`, with `appendfsync everysec`",
    "redis-replay": "`SET NX EX` refused, `GET`",
    "redis-ask": "`SET NX EX GET`, one command",
}
# Of processor time, of instructions without those of SHA-256, and of transactions a second.
PAIRS = {
    ("replay", "select"): (1.05, 1.15, 1.1),
    ("claim", "select"): (0.75, None, None),
    ("run", "hand-run"): (1.5, 1.9, None),
    ("run", "handler"): (0.62, 0.68, None),
    ("block", "hand-block"): (1.2, 1.35, None),
}
# All that they name, each once.
CALLS = tuple(dict.fromkeys(call for pair in PAIRS for call in pair))


def script(call):
    """Of bench/client."""
    return f"{call.replace('-', '_')}.sql"


def rows(pairs, taken, higher_is_better):
    """[(what, against, result, target)] of {(ours, rival): target} and {call: samples}."""
    return [(NAMES[ours], NAMES[rival], compare(taken[ours], taken[rival], higher_is_better), target) for (ours, rival), target in pairs.items()]
