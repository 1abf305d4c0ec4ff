"""Leases with asyncio: one task for each loop extends them all, on a connection of its own. In words and order it is lease.py."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .drivers import AsyncDriver, AsyncPrivate
from .heart import Held, after_beat, after_error, due_groups, left, log, patience
from .lease import IDLE
from .sql import EXTEND_ALL


class AsyncLost:
    """Whether a lease is lost, like an asyncio.Event. It is lost in time even where the server cannot be asked."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.held: Held | None = None

    def set(self) -> None:
        self._event.set()

    def is_set(self) -> bool:
        return self._event.is_set() or (self.held is not None and left(self.held) <= 0)

    async def wait(self) -> bool:
        """Waits until the lease is lost."""
        while not self.is_set():
            await _happens(self._event, None if self.held is None else max(left(self.held), 0.001))
        return True


class Watch:
    """Cancels the task that began it when a lease is lost."""

    def __init__(self, lost: AsyncLost) -> None:
        body = asyncio.current_task()
        assert body is not None
        self.body, self.of_others = body, _cancellations(body)
        self.task = asyncio.ensure_future(self._cancel(lost))

    async def _cancel(self, lost: AsyncLost) -> None:
        await lost.wait()
        self.body.cancel()

    def end(self) -> bool:
        """Takes the cancellation back, for a timeout around it counts those of its own; tells whether it was the only one."""
        if not self.task.done():
            self.task.cancel()
            return False
        if sys.version_info >= (3, 11):
            self.body.uncancel()
        return _cancellations(self.body) <= self.of_others


def _cancellations(task: asyncio.Task[Any]) -> int:
    """Before Python 3.11 nobody can tell."""
    return task.cancelling() if sys.version_info >= (3, 11) else 0


class AsyncHeart:
    """The heartbeat of all leases of one pool."""

    def __init__(self, driver: AsyncDriver) -> None:
        self.driver = driver
        self.held: set[Held] = set()
        self.task: asyncio.Task[None] | None = None
        self.changed: asyncio.Event | None = None

    def hold(self, held: Held) -> None:
        if self.task is None or self.task.done() or self.task.get_loop() is not asyncio.get_running_loop():
            self.held, self.changed = set(), asyncio.Event()
            self.task = asyncio.ensure_future(self._beat(self.changed))
        self.held.add(held)
        self._wake()

    def let_go(self, held: Held) -> None:
        self.held.discard(held)
        self._wake()

    def _wake(self) -> None:
        if self.changed is not None:
            self.changed.set()

    async def _next(self, changed: asyncio.Event) -> bool:
        """Waits until a lease is due; False when there have been none for long."""
        while True:
            changed.clear()
            idle = not self.held
            pause = IDLE if idle else min(one.due for one in self.held) - time.monotonic()
            if pause <= 0:
                return True
            if not await _happens(changed, pause) and idle and not self.held:
                return False

    async def _beat(self, changed: asyncio.Event) -> None:
        connection: AsyncPrivate | None = None
        try:
            while await self._next(changed):
                for parameters, group in due_groups(self.held, time.monotonic()):
                    asked = time.monotonic()
                    seconds = patience(group, self.held, asked)
                    try:
                        connection = connection or await self.driver.private(seconds)
                        with _within(asked + seconds, connection):
                            lost = after_beat(group, await connection.rows(EXTEND_ALL, parameters), asked)
                    except Exception as error:
                        log.warning("a heartbeat failed: %s", type(error).__name__)
                        await _close(connection)
                        connection = None
                        lost = after_error(group, time.monotonic())
                    for one in lost:
                        self.let_go(one)
                        one.on_lost()
        finally:
            await _close(connection)


async def _happens(event: asyncio.Event, timeout: float | None) -> bool:
    """Whether an event is set in time. Before Python 3.12 asyncio.wait_for can forget that it was cancelled."""
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({waiting}, timeout=timeout)
        return event.is_set()
    finally:
        waiting.cancel()


@contextmanager
def _within(until: float, connection: AsyncPrivate) -> Iterator[None]:
    """Cuts a connection that has not answered by then: drivers wait for the server even where their caller is cancelled."""
    alarm = asyncio.get_running_loop().call_later(until - time.monotonic(), connection.cut)
    try:
        yield
    finally:
        alarm.cancel()


async def _close(connection: AsyncPrivate | None) -> None:
    if connection is not None:
        try:
            await connection.close()
        except Exception as error:
            log.debug("closing the connection of the heartbeat: %s", type(error).__name__)
