"""A driver without asyncio for those who have it: each call in a thread.

Waiting for a connection has threads of its own. In those of the calls it would keep from its COMMIT whoever has the connection.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, Callable, TypeVar

from ..sql import Statement
from . import Driver, Private, Row, Transaction

log = logging.getLogger("pg_idempotent")
T = TypeVar("T")


class ThreadedTransaction:
    """A caller that is cancelled does not stop the thread that works for it. So calls take turns, and none follows the last one."""

    def __init__(self, transaction: Transaction, threads: Executor) -> None:
        self.connection = transaction.connection
        self._transaction, self._threads = transaction, threads
        self._turn, self._is_over = threading.Lock(), False

    async def rows(self, statement: Statement, parameters: dict[str, Any]) -> list[Row]:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._rows, statement, parameters)

    async def commit(self) -> None:
        await self._end(self._transaction.commit)

    async def rollback(self) -> None:
        await self._end(self._transaction.rollback)

    def retire(self) -> None:
        self._transaction.retire()

    @property
    def lost(self) -> bool:
        return self._transaction.lost

    def _rows(self, statement: Statement, parameters: dict[str, Any]) -> list[Row]:
        with self._turn:
            if self._is_over:
                raise RuntimeError("the transaction is over")
            return self._transaction.rows(statement, parameters)

    async def _end(self, end: Callable[[], None]) -> None:
        """Happens even where the caller is cancelled before a thread has begun with it."""

        def in_turn() -> None:
            with self._turn:
                self._is_over = True
                end()

        await _surely(asyncio.get_running_loop().run_in_executor(self._threads, in_turn), _forget)


class ThreadedPrivate:
    def __init__(self, private: Private, threads: Executor) -> None:
        self._private, self._threads = private, threads

    async def rows(self, statement: Statement, parameters: dict[str, Any]) -> list[Row]:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._private.rows, statement, parameters)

    def cut(self) -> None:
        self._private.cut()

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, self._private.close)


async def _surely(call: asyncio.Future[T], afterwards: Callable[[asyncio.Future[T]], None]) -> T:
    """Waits for a call that goes on where its caller is cancelled; what becomes of it then is for a function to see to."""
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        call.add_done_callback(afterwards)
        raise


def _forget(ending: asyncio.Future[None]) -> None:
    if not ending.cancelled() and ending.exception() is not None:
        log.debug("the end of a transaction whose caller was cancelled: %s", type(ending.exception()).__name__)


def _undo(beginning: asyncio.Future[Transaction]) -> None:
    if not beginning.cancelled() and beginning.exception() is None:
        beginning.get_loop().run_in_executor(None, beginning.result().rollback)


def _hang_up(connecting: asyncio.Future[Private]) -> None:
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.get_loop().run_in_executor(None, connecting.result().close)


class ThreadedDriver:
    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self._threads, self._waiting = ThreadPoolExecutor(16, "pg_idempotent"), ThreadPoolExecutor(16, "pg_idempotent waiting")

    async def begin(self, timeout: float | None = None) -> ThreadedTransaction:
        beginning = asyncio.get_running_loop().run_in_executor(self._waiting, self.driver.begin, timeout)
        return ThreadedTransaction(await _surely(beginning, _undo), self._threads)

    def join(self, connection: Any) -> ThreadedTransaction:
        return ThreadedTransaction(self.driver.join(connection), self._threads)

    async def private(self, timeout: float) -> ThreadedPrivate:
        connecting = asyncio.get_running_loop().run_in_executor(self._waiting, self.driver.private, timeout)
        return ThreadedPrivate(await _surely(connecting, _hang_up), self._threads)

    async def mend(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._waiting, self.driver.mend)
