"""asyncpg."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from ..errors import Unreachable
from ..sql import Statement
from . import Row

# What connecting and acquiring raise where there is no server.
UNREACHABLE = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
)


def _is_closed(connection: Any) -> bool:
    """A connection that breaks leaves its pool at once, and then answers no question but with an error."""
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True


class AsyncpgTransaction:
    def __init__(self, connection: Any, pool: Any, transaction: Any) -> None:
        self.connection = connection
        self._pool, self._transaction = pool, transaction
        self._over = False
        self._lost = False

    async def rows(self, statement: Statement, parameters: dict[str, Any]) -> list[Row]:
        return [tuple(row) for row in await self.connection.fetch(statement.numbered, *statement.in_order(parameters))]

    async def commit(self) -> None:
        try:
            if self._transaction is not None:
                await self._transaction.commit()
        finally:
            await self._give_back()

    async def rollback(self) -> None:
        if self._over or self._transaction is None:
            return
        try:
            await self._transaction.rollback()
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            if not _is_closed(self.connection):
                self.connection.terminate()
        finally:
            await self._give_back()

    def retire(self) -> None:
        """Nothing: what is given back refuses statements."""

    async def _give_back(self) -> None:
        self._over, self._lost = True, _is_closed(self.connection)
        if self._pool is not None:
            await self._pool.release(self.connection)

    @property
    def lost(self) -> bool:
        return self._lost if self._over else _is_closed(self.connection)


class AsyncpgPrivate:
    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def rows(self, statement: Statement, parameters: dict[str, Any]) -> list[Row]:
        return [tuple(row) for row in await self.connection.fetch(statement.numbered, *statement.in_order(parameters))]

    def cut(self) -> None:
        self.connection.terminate()

    async def close(self) -> None:
        self.connection.terminate()


class AsyncpgDriver:
    def __init__(self, pool: Any) -> None:
        self.pool = pool

    async def begin(self, timeout: float | None = None) -> AsyncpgTransaction:
        try:
            connection = await self.pool.acquire(timeout=timeout)
        except (*UNREACHABLE, TimeoutError) as error:
            raise Unreachable from error
        transaction = connection.transaction()
        try:
            await transaction.start()
        except BaseException as error:
            await self.pool.release(connection)
            if isinstance(error, UNREACHABLE):
                raise Unreachable from error
            raise
        return AsyncpgTransaction(connection, self.pool, transaction)

    def join(self, connection: Any) -> AsyncpgTransaction:
        return AsyncpgTransaction(connection, None, None)

    async def private(self, timeout: float) -> AsyncpgPrivate:
        # Beside the pool, and as the pool connects: it offers no other way to know how.
        pool, connect = self.pool, getattr(self.pool, "_connect", asyncpg.connect)  # without it before 0.30
        try:
            connection = await connect(
                *pool._connect_args,
                loop=pool._loop,
                connection_class=pool._connection_class,
                record_class=pool._record_class,
                **{**pool._connect_kwargs, "timeout": timeout},
            )
            try:
                for prepare in (pool._init, pool._setup):
                    if prepare is not None:
                        await asyncio.wait_for(prepare(connection), timeout)
            except BaseException:
                connection.terminate()
                raise
            return AsyncpgPrivate(connection)
        except (*UNREACHABLE, asyncio.TimeoutError) as error:
            raise Unreachable from error

    async def mend(self) -> None:
        await self.pool.expire_connections()
