"""Every statement of this client, and nothing else of it.

Columns are named and parameters cast, so that no driver's typing matters: parameters are text, bytes, whole and floating numbers. One is
written ``{name}``; each driver's spelling of it is made here.
"""

from __future__ import annotations

import re
from typing import Any

PARAMETER = re.compile(r"\{(\w+)\}")


class Statement:
    """A statement in the spelling of every driver."""

    def __init__(self, text: str) -> None:
        text = " ".join(text.split())
        self.names = tuple(dict.fromkeys(PARAMETER.findall(text)))
        self.pyformat = PARAMETER.sub(r"%(\1)s", text)
        self.colon = PARAMETER.sub(r":\1", text)
        self.numbered = PARAMETER.sub(lambda found: f"${self.names.index(found[1]) + 1}", text)

    def in_order(self, parameters: dict[str, Any]) -> list[Any]:
        """The values of the numbered spelling."""
        return [parameters[name] for name in self.names]


OPERATION = "operation => CAST({operation} AS text), key => CAST({key} AS text), scope => CAST({scope} AS text)"
LEASE = "lease => make_interval(secs => CAST({lease} AS double precision))"
WAIT = "wait => make_interval(secs => CAST({wait} AS double precision))"
FENCE = "fence => CAST({fence} AS bigint)"
RESULT = """
    outcome, fence, attempt, failed, status, CAST(headers AS text) AS headers, CAST(response AS text) AS response, body, evicted,
    CAST(checkpoint AS text) AS checkpoint, CAST(extract(epoch FROM retry_after) AS double precision) AS retry_after, expires_at
"""
ANSWER = """
    response => CAST(CAST({response} AS text) AS jsonb), status => CAST({status} AS integer),
    headers => CAST(CAST({headers} AS text) AS jsonb), body => CAST({body} AS bytea),
    retention => make_interval(secs => CAST({retention} AS double precision))
"""

CLAIM = Statement(
    f"SELECT {RESULT} FROM idempotent_claim({OPERATION}, request => CAST(CAST({{request}} AS text) AS jsonb), {LEASE}, {WAIT}, "
    "attempt_id => CAST(CAST({attempt_id} AS text) AS uuid))"
)
REPLAY = Statement(f"SELECT {RESULT} FROM idempotent_replay({OPERATION})")
XID = "CAST(pg_current_xact_id_if_assigned() AS text)"
COMPLETE = Statement(f"SELECT CAST(idempotent_complete({OPERATION}, {FENCE}, {ANSWER}) AS text) AS response, {XID} AS xid")
FAIL = Statement(f"SELECT CAST(idempotent_fail({OPERATION}, {FENCE}, {ANSWER}) AS text) AS response, {XID} AS xid")
# COMMIT raises nothing where the transaction has failed, or where another one is open in its place. Where the operation is only
# observed, and nothing was written, the transaction had no id: then there is nothing that could be undone.
STANDS = Statement(f"SELECT CAST({{xid}} AS text) IS NULL OR coalesce({XID} = CAST({{xid}} AS text), false) AS stands")
ALIVE = Statement("SELECT true AS alive")
RELEASE = Statement(f"SELECT idempotent_release({OPERATION}, {FENCE}) AS released")
CHECKPOINT = Statement(
    f"SELECT CAST(idempotent_checkpoint({OPERATION}, {FENCE}, checkpoint => CAST(CAST({{checkpoint}} AS text) AS jsonb)) AS text) AS done"
)
DERIVE_KEY = Statement(f"SELECT CAST(idempotent_derive_key({OPERATION}, label => CAST({{label}} AS text)) AS text) AS derived")
CHECK = Statement("SELECT CAST(idempotent_check() AS text) AS done")

# Keys and fences as JSON arrays: drivers disagree about arrays. The keys of lost leases.
EXTEND_ALL = Statement(f"""
    SELECT lost FROM idempotent_extend_all(operation => CAST({{operation}} AS text),
        keys => ARRAY(SELECT key FROM jsonb_array_elements_text(CAST(CAST({{keys}} AS text) AS jsonb))
                        WITH ORDINALITY AS k (key, n) ORDER BY n),
        fences => ARRAY(SELECT CAST(fence AS bigint) FROM jsonb_array_elements_text(CAST(CAST({{fences}} AS text) AS jsonb))
                          WITH ORDINALITY AS f (fence, n) ORDER BY n),
        {LEASE}, scope => CAST({{scope}} AS text)) AS l (lost)
""")

HTTP_CLAIM = Statement(f"""
    SELECT run, key, fence, outcome, status, headers, body, retry_after_seconds
      FROM idempotent_http_claim(operation => CAST({{operation}} AS text), key_header => CAST({{key_header}} AS text),
        method => CAST({{method}} AS text), target => CAST({{target}} AS text), content_type => CAST({{content_type}} AS text),
        body => CAST({{body}} AS bytea), scope => CAST({{scope}} AS text), {LEASE}, {WAIT},
        attempt_id => CAST(CAST({{attempt_id}} AS text) AS uuid))
""")
HTTP_COMPLETE = Statement(f"""
    SELECT idempotent_http_complete({OPERATION}, status => CAST({{status}} AS integer), headers => CAST({{headers}} AS text),
        body => CAST({{body}} AS bytea), {FENCE}) AS stored
""")
# Of an answer that is not kept, because it is sent before it is whole: in place of its body there is one that the operation's
# max_response_bytes does not admit, made in the server. Whether it was so is asked in the same transaction.
HTTP_COMPLETE_UNKEPT = Statement(f"""
    SELECT idempotent_http_complete({OPERATION}, status => CAST({{status}} AS integer), headers => CAST({{headers}} AS text),
        body => convert_to(repeat(' ', CAST({{unkept_bytes}} AS integer)), 'UTF8'), {FENCE}) AS stored
""")
EVICTED = Statement(f"SELECT evicted FROM idempotent_replay({OPERATION})")
