"""Leases without asyncio: one thread a process extends them all, on a connection of its own."""

from __future__ import annotations

import os
import threading
import time

from .drivers import Driver, Private
from .drivers.line import within
from .heart import Held, after_beat, after_error, due_groups, left, log, patience
from .sql import EXTEND_ALL

IDLE = 5.0  # seconds: the thread without a lease ends, and closes its connection


class Lost:
    """Whether a lease is lost, for work that looks now and then or waits for it, like a threading.Event. It is lost in time even where the
    server cannot be asked."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.held: Held | None = None

    def set(self) -> None:
        self._event.set()

    def is_set(self) -> bool:
        return self._event.is_set() or (self.held is not None and left(self.held) <= 0)

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the lease is lost, or for so many seconds; tells whether it is lost."""
        until = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            pauses = [] if self.held is None else [left(self.held)]
            pauses += [] if until is None else [until - time.monotonic()]
            if until is not None and pauses[-1] <= 0:
                break
            self._event.wait(max(min(pauses), 0.001) if pauses else None)
        return self.is_set()


class Heart:
    """The heartbeat of all leases of one pool."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self._forget()

    def _forget(self) -> None:
        self.process = os.getpid()
        self.changed = threading.Condition()
        self.held: set[Held] = set()
        self.thread: threading.Thread | None = None

    def hold(self, held: Held) -> None:
        if self.process != os.getpid():  # after a fork, without the thread
            self._forget()
        with self.changed:
            self.held.add(held)
            if self.thread is None:
                self.thread = threading.Thread(target=self._beat, name="pg_idempotent heartbeat", daemon=True)
                self.thread.start()
            self.changed.notify()

    def let_go(self, held: Held) -> None:
        with self.changed:
            self.held.discard(held)
            self.changed.notify()

    def _next(self) -> bool:
        """Waits until a lease is due; False when there have been none for long."""
        with self.changed:
            while True:
                if not self.held:
                    self.changed.wait(IDLE)
                    if not self.held:
                        self.thread = None
                        return False
                pause = min(one.due for one in self.held) - time.monotonic()
                if pause <= 0:
                    return True
                self.changed.wait(pause)

    def _beat(self) -> None:
        connection: Private | None = None
        while self._next():
            with self.changed:
                groups = due_groups(self.held, time.monotonic())
            for parameters, group in groups:
                asked = time.monotonic()
                with self.changed:
                    seconds = patience(group, self.held, asked)
                try:
                    connection = connection or self.driver.private(seconds)
                    with within(asked + seconds - time.monotonic(), connection.cut):
                        lost = after_beat(group, connection.rows(EXTEND_ALL, parameters), asked)
                except Exception as error:
                    log.warning("a heartbeat failed: %s", type(error).__name__)
                    _close(connection)
                    connection = None
                    lost = after_error(group, time.monotonic())
                for one in lost:
                    self.let_go(one)
                    one.on_lost()
        _close(connection)


def _close(connection: Private | None) -> None:
    if connection is not None:
        try:
            connection.close()
        except Exception as error:
            log.debug("closing the connection of the heartbeat: %s", type(error).__name__)
