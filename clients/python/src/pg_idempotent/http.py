"""HTTP without a framework: what a request is to the extension, and what becomes of an answer. The rules themselves are in SQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Callable
from uuid import uuid4

from .attempt import is_storable
from .drivers import Row
from .errors import IN_FAILED_TRANSACTION, IdempotencyError, sqlstate
from .outcome import Codec, HttpClaim, Outcome, dumps

HEADER = "idempotency-key"
METHODS = ("POST", "PATCH")
MEGABYTE = 1 << 20
# A value that names no key in any reading: the extension words the problem.
MALFORMED = '"'

Pairs = Sequence[tuple[str, str]]
Store = Callable[[int, Pairs], bool]


@dataclass(frozen=True)
class Response:
    status: int
    headers: Pairs
    body: bytes

    @classmethod
    def of(cls, claim: HttpClaim) -> Response:
        assert claim.status is not None
        headers = claim.pairs
        if claim.retry_after is not None and not any(name.lower() == "retry-after" for name, _ in headers):
            headers.append(("Retry-After", str(claim.retry_after)))
        return cls(claim.status, headers, bytes(claim.body or b""))

    @classmethod
    def problem(cls, status: int, detail: str, retry_after: float | None = None) -> Response:
        """Of what only a server can tell, such as a body that is too large."""
        headers = [("Content-Type", "application/problem+json")]
        if retry_after is not None:
            headers.append(("Retry-After", str(max(round(retry_after), 1))))
        problem = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
        return cls(status, headers, dumps(problem).encode())

    @classmethod
    def of_error(cls, error: IdempotencyError) -> Response:
        text = str(error).partition(": ")[2]
        return cls.problem(error.http_status, f"{text[:1].upper()}{text[1:]}.", error.retry_after)


@dataclass(frozen=True)
class Request:
    """What tells one request from another."""

    operation: str
    key_header: str | None
    method: str
    target: str
    content_type: str | None
    body: bytes
    scope: str
    # A claim of a lease that is asked again, because the answer to its COMMIT was lost, gets its own lease.
    attempt_id: str = field(default_factory=lambda: str(uuid4()))

    def record(self, claim: HttpClaim) -> dict[str, Any]:
        return {"operation": self.operation, "key": claim.key, "scope": self.scope}

    def parameters(self, lease: float | None) -> dict[str, Any]:
        return {**self.__dict__, "lease": lease, "wait": 0.0, "attempt_id": None if lease is None else self.attempt_id}


def key_header(values: Iterable[bytes]) -> str | None:
    """The value of the one header. Two headers name no key."""
    found = [decode(value) for value in values]
    if len(found) > 1:
        return MALFORMED
    return key_of(found[0]) if found else None


def key_of(header: str) -> str | None:
    """The value of a header; none for blanks."""
    if not header.strip(" \t"):
        return None
    return header if is_storable(header) else MALFORMED


def decode(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def completion(request: Request, claim: HttpClaim, response: Response, unkept_bytes: int | None) -> dict[str, Any]:
    """The parameters of both ways to complete."""
    return {
        "operation": request.operation, "key": claim.key, "scope": request.scope, "fence": claim.fence, "status": response.status,
        "headers": dumps([list(pair) for pair in response.headers]), "body": response.body, "unkept_bytes": unkept_bytes,
    }  # fmt: skip


def is_committed_without_key(response: Response) -> bool:
    """Of a request that names no key, and runs because the operation is only observed: an error takes along what the handler wrote."""
    return response.status < 500


def outcome_of(claim: HttpClaim, record: Row | None = None, codec: Codec | None = None) -> Outcome:
    """The claim of a request that is to be worked on, as that of any other call. The record tells of the attempts before."""
    if record is None or codec is None:
        return Outcome("claimed", claim.fence, None, False, None, None, None, None, False, None, None, None)
    return replace(Outcome.of(record, codec), outcome="claimed", fence=claim.fence)


def answer_of_failed_transaction(error: BaseException, response: Response) -> Response | None:
    """A handler that caught a database error has undone all it did. Its refusal can be sent, though not stored; anything else is untrue."""
    return response if sqlstate(error) == IN_FAILED_TRANSACTION and response.status >= 400 else None
