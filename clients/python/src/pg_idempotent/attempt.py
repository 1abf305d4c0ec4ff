"""What the body of a claim holds: the outcome, and the words for its answer. How it is stored is in sync.py and aio.py."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from .drivers import Row
from .errors import Evicted, Failure, InvalidKey, NotCompleted
from .outcome import Codec, Outcome, dumps

Headers = Sequence[tuple[str, str]]


class State:
    """An attempt at an operation under a key."""

    def __init__(self, operation: str, key: str, scope: str, ttl: timedelta | None, outcome: Outcome, codec: Codec) -> None:
        self.operation, self.key, self.scope, self.ttl, self.outcome, self.codec = operation, key, scope, ttl, outcome, codec
        self.finished = False
        self.xid: str | None = None
        self._answer = outcome.response

    @property
    def replayed(self) -> bool:
        """Whether the work was done before: the answer is the stored one, and there is nothing to do."""
        return self.outcome.outcome == "replay"

    @property
    def answer(self) -> Any:
        """The stored answer: of the attempt before, or since complete() of this one."""
        return self._answer

    @property
    def failed(self) -> bool:
        """Whether the stored answer is a final failure."""
        return self.outcome.failed

    @property
    def status(self) -> int | None:
        return self.outcome.status

    @property
    def evicted(self) -> bool:
        """Whether the stored answer was too large to keep, or is past its retention."""
        return self.outcome.evicted

    @property
    def number(self) -> int:
        """Which attempt this is: more than 1 means that another one's lease lapsed."""
        return self.outcome.attempt or 1

    @property
    def fence(self) -> int | None:
        return self.outcome.fence

    @property
    def checkpoint(self) -> Any:
        """What the attempt before has left."""
        return self.outcome.checkpoint

    def result(self) -> Any:
        """The answer as a function returns it: a stored failure is raised."""
        if self.replayed and self.failed:
            raise Failure(self.answer, self.status)
        if self.replayed and self.evicted:
            raise Evicted(self.operation, self.key, self.scope)
        return self.answer

    def check_finished(self) -> None:
        if not self.replayed and not self.finished:
            raise NotCompleted(self.operation, self.key, self.scope)

    def identity(self, **more: Any) -> dict[str, Any]:
        return {"operation": self.operation, "key": self.key, "scope": self.scope, **more}

    def parameters(
        self, response: Any, status: int | None, headers: Headers | None, body: bytes | None, retention: timedelta | None
    ) -> dict[str, Any]:
        """Those of complete and fail."""
        if self.replayed or self.finished:
            raise RuntimeError("this attempt has its answer already")
        return self.identity(
            fence=self.fence,
            response=self.codec.encode(response),
            status=status,
            body=body,
            headers=None if headers is None else dumps([list(pair) for pair in headers]),
            retention=seconds(retention),
        )

    def store(self, row: Row) -> Any:
        """Notes the answer, and which transaction stored it."""
        self.finished = True
        self._answer, self.xid = self.codec.loads(row[0]), row[1]
        return self._answer


def scope_of(setting: Any, *arguments: Any, **named: Any) -> str:
    """Whose key it is, by a setting that is a function or the scope itself."""
    return known_scope(setting, setting(*arguments, **named) if callable(setting) else setting)


def known_scope(setting: Any, found: Any) -> str:
    """What a setting has found. If it has found nobody, all of those would share their keys, and be told each other's answers."""
    if found is None and setting is not None:
        raise TypeError("scope() returned None: whose key is it? Pass scope=None if there is one tenant only")
    return "" if found is None else str(found)


def is_storable(text: str) -> bool:
    """Whether Postgres has such a text: of no NUL, and of whole characters."""
    try:
        return "\0" not in text and text.encode() is not None
    except UnicodeEncodeError:
        return False


def checked_identity(operation: str, key: str, scope: str | None) -> dict[str, Any]:
    """The parameters of what a call is about. No driver is asked about a text that it cannot send."""
    found = {"operation": operation, "key": key, "scope": scope or ""}
    for name, text in found.items():
        # Drivers differ in what they make of other types, and two of them may become one key.
        if not isinstance(text, str):
            raise TypeError(f"{name} must be a str, not {type(text).__name__}")
        if not is_storable(text):
            raise InvalidKey(operation, key, scope, detail=f"a character of the {name} is none of Postgres")
    return found


def seconds(length: timedelta | None) -> float | None:
    return None if length is None else length.total_seconds()
