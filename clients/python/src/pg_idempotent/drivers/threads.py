"""A driver without asyncio for those who have it: each call in a thread, one after the other."""

from __future__ import annotations

import asyncio
from typing import Any

from ..sql import Statement
from . import Driver, Private, Row, Transaction


class ThreadedTransaction:
    def __init__(self, transaction: Transaction) -> None:
        self.connection = transaction.connection
        self._transaction = transaction

    async def rows(self, statement: Statement, parameters: dict[str, Any]) -> list[Row]:
        return await asyncio.to_thread(self._transaction.rows, statement, parameters)

    async def commit(self) -> None:
        await asyncio.to_thread(self._transaction.commit)

    async def rollback(self) -> None:
        await asyncio.to_thread(self._transaction.rollback)

    @property
    def lost(self) -> bool:
        return self._transaction.lost


class ThreadedPrivate:
    def __init__(self, private: Private) -> None:
        self._private = private

    async def rows(self, statement: Statement, parameters: dict[str, Any]) -> list[Row]:
        return await asyncio.to_thread(self._private.rows, statement, parameters)

    async def close(self) -> None:
        await asyncio.to_thread(self._private.close)


def _undo(beginning: asyncio.Future[Transaction]) -> None:
    if not beginning.cancelled() and beginning.exception() is None:
        beginning.get_loop().run_in_executor(None, beginning.result().rollback)


class ThreadedDriver:
    def __init__(self, driver: Driver) -> None:
        self.driver = driver

    async def begin(self, timeout: float | None = None) -> ThreadedTransaction:
        beginning = asyncio.ensure_future(asyncio.to_thread(self.driver.begin, timeout))
        try:
            return ThreadedTransaction(await asyncio.shield(beginning))
        except asyncio.CancelledError:
            # The thread goes on, and its connection must find its way back.
            beginning.add_done_callback(_undo)
            raise

    def join(self, connection: Any) -> ThreadedTransaction:
        return ThreadedTransaction(self.driver.join(connection))

    async def private(self) -> ThreadedPrivate:
        return ThreadedPrivate(await asyncio.to_thread(self.driver.private))

    async def mend(self) -> None:
        await asyncio.to_thread(self.driver.mend)
