"""What a claim answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Callable, NamedTuple

from .errors import OF_OUTCOME, IdempotencyError, InProgress


def dumps(value: Any) -> str:
    """JSON text that jsonb takes: no NaN, no Infinity."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def loads(text: str | None) -> Any:
    return None if text is None else json.loads(text)


@dataclass(frozen=True)
class Codec:
    """How values become JSON text and come back, for those who want Decimal or dates in their answers."""

    dumps: Callable[[Any], str] = dumps
    loads: Callable[[str | None], Any] = loads

    def encode(self, value: Any) -> str | None:
        return None if value is None else self.dumps(value)


@dataclass(frozen=True)
class Outcome:
    """A row of idempotent_result."""

    outcome: str
    fence: int | None
    attempt: int | None
    failed: bool
    status: int | None
    headers: Any
    response: Any
    body: bytes | None
    evicted: bool
    checkpoint: Any
    retry_after: float | None
    expires_at: datetime | None

    @classmethod
    def of(cls, row: Sequence[Any], codec: Codec) -> Outcome:
        outcome, fence, attempt, failed, status, headers, response, body, evicted, checkpoint, retry_after, expires_at = row
        return cls(
            outcome,
            fence,
            attempt,
            bool(failed),
            status,
            loads(headers),
            codec.loads(response),
            None if body is None else bytes(body),
            bool(evicted),
            codec.loads(checkpoint),
            retry_after,
            expires_at,
        )

    def error(self, operation: str, key: str, scope: str) -> IdempotencyError:
        """The exception of an outcome that neither claims nor replays."""
        if self.outcome == "in_progress":
            return InProgress(operation, key, scope, retry_after=self.retry_after)
        return OF_OUTCOME[self.outcome](operation, key, scope)


class HttpClaim(NamedTuple):
    """A row of idempotent_http_claim."""

    run: bool
    key: str | None
    fence: int | None
    outcome: str | None
    status: int | None
    headers: str | None
    body: bytes | None
    retry_after: int | None

    @property
    def has_record(self) -> bool:
        """Whether the server can be asked about the attempt. Where the operation is only observed, a request may run that names no key."""
        return self.run and self.key is not None and self.fence is not None

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return [(name, value) for name, value in loads(self.headers) or []]
