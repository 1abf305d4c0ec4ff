"""What a heartbeat is about, with and without asyncio: which leases are due, and which are lost."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from .drivers import Row
from .outcome import dumps

log = logging.getLogger("pg_idempotent")
BEATS = 3  # in the length of a lease
AFTER_ERROR = 0.1  # of its length: when a beat that failed is tried again


@dataclass(eq=False)
class Held:
    """A lease that this process holds. Times are of the monotonic clock, and from before the server was asked: the lease lasts longer."""

    operation: str
    scope: str
    key: str
    fence: int
    seconds: float
    began: float
    on_lost: Callable[[], None]
    due: float = field(init=False)
    until: float = field(init=False)

    def __post_init__(self) -> None:
        self.extended(self.began)

    def extended(self, asked: float) -> None:
        self.until, self.due = asked + self.seconds, asked + self.seconds / BEATS


Group = tuple[dict[str, Any], list[Held]]


def due_groups(held: Iterable[Held], now: float) -> list[Group]:
    """The parameters of a statement, and the leases that it extends: those that go together and of which one is due."""
    together: dict[tuple[str, str, float, int], list[Held]] = {}
    holders: Counter[tuple[str, str, str]] = Counter()
    for one in held:
        # A lease may be lost, and its key held anew, before this process has heard of the loss. What is answered are keys.
        of_key = one.operation, one.scope, one.key
        together.setdefault((one.operation, one.scope, one.seconds, holders[of_key]), []).append(one)
        holders[of_key] += 1
    return [
        (
            {
                "operation": operation,
                "scope": scope,
                "lease": seconds,
                "keys": dumps([one.key for one in group]),
                "fences": dumps([str(one.fence) for one in group]),
            },
            group,
        )
        for (operation, scope, seconds, _), group in together.items()
        if any(one.due <= now for one in group)
    ]


def patience(group: list[Held], held: Iterable[Held], now: float) -> float:
    """How long a beat may take, in seconds: a network that swallows everything must not hold it until the next lease lapses."""
    return min([group[0].seconds / BEATS, *(one.until - now for one in held if one.until > now)])


def after_beat(group: list[Held], rows: list[Row], asked: float) -> list[Held]:
    """Notes what a statement has extended; returns the leases that are lost."""
    lost = {row[0] for row in rows}
    for one in group:
        if one.key not in lost:
            one.extended(asked)
    return [one for one in group if one.key in lost]


def after_error(group: list[Held], now: float) -> list[Held]:
    """When to ask again; returns the leases that have ended meanwhile."""
    for one in group:
        one.due = now + one.seconds * AFTER_ERROR
    return [one for one in group if one.until <= now]


def left(held: Held) -> float:
    return held.until - time.monotonic()
