"""psycopg 3 and psycopg_pool, with and without asyncio."""

from __future__ import annotations

import asyncio
import inspect
import math
from typing import Any, cast

import psycopg
from psycopg.rows import tuple_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolClosed

from ..errors import Unreachable
from ..sql import Statement
from . import Row
from .line import Line, within


class PsycopgTransaction:
    def __init__(self, connection: psycopg.Connection[Any], pool: ConnectionPool[Any] | None) -> None:
        self.connection = connection
        self._pool = pool
        self._over = self._lost = self._is_retired = False

    def rows(self, statement: Statement, parameters: dict[str, Any]) -> list[Row]:
        with self.connection.cursor(row_factory=tuple_row) as cursor:
            cursor.execute(cast(Any, statement.pyformat), parameters)
            return list(cursor.fetchall())

    def commit(self) -> None:
        try:
            if self._pool is not None:
                self.connection.commit()
        finally:
            self._give_back()

    def rollback(self) -> None:
        if self._over or self._pool is None:
            return
        try:
            self.connection.rollback()
        except psycopg.Error:
            self.connection.close()
        finally:
            self._give_back()

    def retire(self) -> None:
        self._is_retired = True

    def _give_back(self) -> None:
        self._over, self._lost = True, self.connection.closed
        if self._pool is not None:
            if self._is_retired:  # the pool connects anew; `close()` of some pools gives the connection back as it is
                self.connection.pgconn.finish()
            self._pool.putconn(self.connection)

    @property
    def lost(self) -> bool:
        return self._lost if self._over else self.connection.closed


class PsycopgPrivate:
    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self._line = Line(connection)

    def rows(self, statement: Statement, parameters: dict[str, Any]) -> list[Row]:
        with self.connection.cursor(row_factory=tuple_row) as cursor:
            cursor.execute(cast(Any, statement.pyformat), parameters)
            return list(cursor.fetchall())

    def cut(self) -> None:
        self._line.cut()

    def close(self) -> None:
        self._line.close()
        self.connection.close()


def _beside(kwargs: Any, timeout: float) -> dict[str, Any]:
    own = {"autocommit": True, "application_name": "pg_idempotent heartbeat", "connect_timeout": math.ceil(timeout)}
    return {**(kwargs or {}), **own}


def _called(value: Any) -> Any:
    return value() if callable(value) else value


async def _given(value: Any) -> Any:
    """What a pool was given: a value, or a function that makes it for each connection."""
    value = _called(value)
    return await value if inspect.isawaitable(value) else value


class PsycopgDriver:
    def __init__(self, pool: ConnectionPool[Any]) -> None:
        self.pool = pool

    def begin(self, timeout: float | None = None) -> PsycopgTransaction:
        try:
            connection = self.pool.getconn(timeout)
            # Without autocommit psycopg begins by itself.
            if connection.autocommit:
                try:
                    connection.execute("BEGIN")
                except BaseException:
                    self.pool.putconn(connection)
                    raise
        except PoolClosed:  # or not opened yet: asking again does not help
            raise
        except psycopg.OperationalError as error:
            raise Unreachable from error
        return PsycopgTransaction(connection, self.pool)

    def join(self, connection: psycopg.Connection[Any]) -> PsycopgTransaction:
        return PsycopgTransaction(connection, None)

    def private(self, timeout: float) -> PsycopgPrivate:
        connect, configure = self.pool.connection_class.connect, self.pool._configure
        try:
            private = PsycopgPrivate(connect(_called(self.pool.conninfo), **_beside(_called(self.pool.kwargs), timeout)))
            if configure is not None:
                try:
                    with within(timeout, private.cut):
                        configure(private.connection)
                        private.connection.set_autocommit(True)
                except BaseException:
                    private.close()
                    raise
            return private
        except psycopg.OperationalError as error:
            raise Unreachable from error

    def mend(self) -> None:
        self.pool.check()


class AsyncPsycopgTransaction:
    def __init__(self, connection: psycopg.AsyncConnection[Any], pool: AsyncConnectionPool[Any] | None) -> None:
        self.connection = connection
        self._pool = pool
        self._over = self._lost = self._is_retired = False

    async def rows(self, statement: Statement, parameters: dict[str, Any]) -> list[Row]:
        async with self.connection.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(cast(Any, statement.pyformat), parameters)
            return list(await cursor.fetchall())

    async def commit(self) -> None:
        try:
            if self._pool is not None:
                await self.connection.commit()
        finally:
            await self._give_back()

    async def rollback(self) -> None:
        if self._over or self._pool is None:
            return
        try:
            await self.connection.rollback()
        except psycopg.Error:
            await self.connection.close()
        finally:
            await self._give_back()

    def retire(self) -> None:
        self._is_retired = True

    async def _give_back(self) -> None:
        self._over, self._lost = True, self.connection.closed
        if self._pool is not None:
            if self._is_retired:  # see PsycopgTransaction
                self.connection.pgconn.finish()
            await self._pool.putconn(self.connection)

    @property
    def lost(self) -> bool:
        return self._lost if self._over else self.connection.closed


class AsyncPsycopgPrivate:
    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self.connection = connection
        self._line = Line(connection)

    async def rows(self, statement: Statement, parameters: dict[str, Any]) -> list[Row]:
        async with self.connection.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(cast(Any, statement.pyformat), parameters)
            return list(await cursor.fetchall())

    def cut(self) -> None:
        self._line.cut()

    async def close(self) -> None:
        self._line.close()
        await self.connection.close()


class AsyncPsycopgDriver:
    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self.pool = pool

    async def begin(self, timeout: float | None = None) -> AsyncPsycopgTransaction:
        try:
            connection = await self.pool.getconn(timeout)
            if connection.autocommit:
                try:
                    await connection.execute("BEGIN")
                except BaseException:
                    await self.pool.putconn(connection)
                    raise
        except PoolClosed:  # or not opened yet: asking again does not help
            raise
        except psycopg.OperationalError as error:
            raise Unreachable from error
        return AsyncPsycopgTransaction(connection, self.pool)

    def join(self, connection: psycopg.AsyncConnection[Any]) -> AsyncPsycopgTransaction:
        return AsyncPsycopgTransaction(connection, None)

    async def private(self, timeout: float) -> AsyncPsycopgPrivate:
        connect, configure = self.pool.connection_class.connect, self.pool._configure
        try:
            conninfo, kwargs = await _given(self.pool.conninfo), await _given(self.pool.kwargs)
            private = AsyncPsycopgPrivate(await connect(conninfo, **_beside(kwargs, timeout)))
            if configure is not None:
                try:
                    await asyncio.wait_for(configure(private.connection), timeout)
                    await private.connection.set_autocommit(True)
                except BaseException:
                    await private.close()
                    raise
            return private
        except (psycopg.OperationalError, asyncio.TimeoutError) as error:
            raise Unreachable from error

    async def mend(self) -> None:
        await self.pool.check()
