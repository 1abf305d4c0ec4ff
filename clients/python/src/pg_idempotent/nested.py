"""A call within the body of another one. It would wait for a second connection of the pool while its caller keeps the first, and where all
callers do that they wait for each other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any


class Frame:
    """A body at work, in whose transaction a connection of the pool is kept."""

    def __init__(self, pool: Any) -> None:
        outer: Frame | None = _frame.get()
        while outer is not None and not outer.is_open:
            outer = outer.outer
        self.pool, self.runner = pool, _runner()
        self.outer: Frame | None = outer
        self.is_open: bool = True

    def close(self) -> None:
        """When the connection is no longer kept."""
        self.is_open, self.runner = False, None


_frame: ContextVar[Frame | None] = ContextVar("pg_idempotent frame", default=None)


def _runner() -> Any:
    """The task, or the thread. What a body has started in others it may never wait for."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return task or threading.get_ident()


@contextmanager
def within(pool: Any) -> Iterator[Frame]:
    frame = Frame(pool)
    _frame.set(frame)
    try:
        yield frame
    finally:
        # Not by a token: what enters a generator and what leaves it may have contexts of their own.
        _frame.set(frame.outer)
        frame.close()


def refuse_nested(pool: Any) -> None:
    frame, runner = _frame.get(), _runner()
    while frame is not None:
        if frame.is_open and frame.pool is pool and frame.runner is not None and frame.runner == runner:
            raise RuntimeError(
                "a call within the body of another one of the same pool would wait for a second connection while that keeps one: "
                "do its work on the connection of the body (once() takes it as `connection`)"
            )
        frame = frame.outer
