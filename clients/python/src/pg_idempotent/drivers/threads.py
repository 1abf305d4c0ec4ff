"""A driver without asyncio for those who have it: each call in a thread.

Waiting for a connection has threads of its own. In those of the calls it would keep from its COMMIT whoever has the connection.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

from ..sql import Statement
from . import Driver, Private, Row, Transaction


class ThreadedTransaction:
    def __init__(self, transaction: Transaction, threads: Executor) -> None:
        self.connection = transaction.connection
        self._transaction, self._threads = transaction, threads

    async def rows(self, statement: Statement, parameters: dict[str, Any]) -> list[Row]:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._transaction.rows, statement, parameters)

    async def commit(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, self._transaction.commit)

    async def rollback(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, self._transaction.rollback)

    def retire(self) -> None:
        self._transaction.retire()

    @property
    def lost(self) -> bool:
        return self._transaction.lost


class ThreadedPrivate:
    def __init__(self, private: Private, threads: Executor) -> None:
        self._private, self._threads = private, threads

    async def rows(self, statement: Statement, parameters: dict[str, Any]) -> list[Row]:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._private.rows, statement, parameters)

    def cut(self) -> None:
        self._private.cut()

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, self._private.close)


def _undo(beginning: asyncio.Future[Transaction]) -> None:
    if not beginning.cancelled() and beginning.exception() is None:
        beginning.get_loop().run_in_executor(None, beginning.result().rollback)


class ThreadedDriver:
    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self._threads, self._waiting = ThreadPoolExecutor(16, "pg_idempotent"), ThreadPoolExecutor(16, "pg_idempotent waiting")

    async def begin(self, timeout: float | None = None) -> ThreadedTransaction:
        beginning = asyncio.get_running_loop().run_in_executor(self._waiting, self.driver.begin, timeout)
        try:
            return ThreadedTransaction(await asyncio.shield(beginning), self._threads)
        except asyncio.CancelledError:
            # The thread goes on, and its connection must find its way back.
            beginning.add_done_callback(_undo)
            raise

    def join(self, connection: Any) -> ThreadedTransaction:
        return ThreadedTransaction(self.driver.join(connection), self._threads)

    async def private(self, timeout: float) -> ThreadedPrivate:
        connecting = asyncio.get_running_loop().run_in_executor(self._waiting, self.driver.private, timeout)
        return ThreadedPrivate(await connecting, self._threads)

    async def mend(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._waiting, self.driver.mend)
