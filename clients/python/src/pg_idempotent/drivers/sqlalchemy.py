"""SQLAlchemy 2: engines with and without asyncio, over any driver of theirs, and sessions that join a claim's transaction."""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, TimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker

from ..errors import Unreachable
from ..sql import Statement
from . import Row
from .line import Line

UNREACHABLE = (OperationalError, InterfaceError, TimeoutError, OSError)


def joining(factory: sessionmaker[Session], connection: Connection) -> Session:
    """A session of the application's own factory in the claim's transaction: its commit() is a savepoint, the claim's COMMIT commits."""
    return factory(bind=connection, join_transaction_mode="create_savepoint")


def async_joining(factory: async_sessionmaker[AsyncSession], connection: AsyncConnection) -> AsyncSession:
    """The same with asyncio."""
    return factory(bind=connection, join_transaction_mode="create_savepoint")


def _beside(engine: Engine) -> Engine:
    """An engine that connects as this one does, with a pool of its own. Listeners of the pool come with it, those of the engine do not."""
    beside = Engine(engine.pool.recreate(), engine.dialect, engine.url)
    beside.dispatch = beside.dispatch._join(engine.dispatch)
    beside._has_events = engine._has_events
    return beside


def _lost(connection: Connection) -> bool:
    return connection.closed or connection.invalidated


class EngineTransaction:
    def __init__(self, connection: Connection, is_ours: bool) -> None:
        self.connection = connection
        self._is_ours = is_ours
        self._over = False
        self._lost = False

    def rows(self, statement: Statement, parameters: dict[str, Any]) -> list[Row]:
        return [tuple(row) for row in self.connection.execute(text(statement.colon), parameters)]

    def commit(self) -> None:
        try:
            if self._is_ours:
                self.connection.commit()
        except DBAPIError as error:
            self._lost = error.connection_invalidated
            raise
        finally:
            self._give_back()

    def rollback(self) -> None:
        if self._over or not self._is_ours:
            return
        self._lost = _lost(self.connection)
        try:
            self.connection.rollback()
        except DBAPIError:
            self.connection.invalidate()
        finally:
            self._give_back()

    def retire(self) -> None:
        """Nothing: what is given back refuses statements."""

    def _give_back(self) -> None:
        self._over = True
        if self._is_ours:
            self.connection.close()

    @property
    def lost(self) -> bool:
        return self._lost if self._over else _lost(self.connection)


class EnginePrivate:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        connection = engine.connect()
        if connection.in_transaction():  # a listener's
            connection.commit()
        self.connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        self._line = Line(self.connection.connection.driver_connection)

    def rows(self, statement: Statement, parameters: dict[str, Any]) -> list[Row]:
        return [tuple(row) for row in self.connection.execute(text(statement.colon), parameters)]

    def cut(self) -> None:
        self._line.cut()

    def close(self) -> None:
        self._line.close()
        self.connection.invalidate()
        self.connection.close()
        self.engine.dispose()


class EngineDriver:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def begin(self, timeout: float | None = None) -> EngineTransaction:
        try:
            connection = self.engine.connect()
            connection.begin()
        except UNREACHABLE as error:
            raise Unreachable from error
        return EngineTransaction(connection, True)

    def join(self, connection: Connection) -> EngineTransaction:
        return EngineTransaction(connection, False)

    def private(self, timeout: float) -> EnginePrivate:
        """As the engine connects: how long that may take is for its URL to say."""
        try:
            return EnginePrivate(_beside(self.engine))
        except UNREACHABLE as error:
            raise Unreachable from error

    def mend(self) -> None:
        """Nothing: SQLAlchemy drops a whole pool when a connection of it broke."""


class AsyncEngineTransaction:
    def __init__(self, connection: AsyncConnection, is_ours: bool) -> None:
        self.connection = connection
        self._is_ours = is_ours
        self._over = False
        self._lost = False

    async def rows(self, statement: Statement, parameters: dict[str, Any]) -> list[Row]:
        return [tuple(row) for row in await self.connection.execute(text(statement.colon), parameters)]

    async def commit(self) -> None:
        try:
            if self._is_ours:
                await self.connection.commit()
        except DBAPIError as error:
            self._lost = error.connection_invalidated
            raise
        finally:
            await self._give_back()

    async def rollback(self) -> None:
        if self._over or not self._is_ours:
            return
        self._lost = self.lost
        try:
            await self.connection.rollback()
        except DBAPIError:
            await self.connection.invalidate()
        finally:
            await self._give_back()

    def retire(self) -> None:
        """Nothing: what is given back refuses statements."""

    async def _give_back(self) -> None:
        self._over = True
        if self._is_ours:
            await self.connection.close()

    @property
    def lost(self) -> bool:
        return self._lost if self._over else self.connection.closed or self.connection.invalidated


class AsyncEnginePrivate:
    def __init__(self, engine: AsyncEngine, connection: AsyncConnection, line: Line) -> None:
        self.engine, self.connection, self._line = engine, connection, line

    async def rows(self, statement: Statement, parameters: dict[str, Any]) -> list[Row]:
        return [tuple(row) for row in await self.connection.execute(text(statement.colon), parameters)]

    def cut(self) -> None:
        self._line.cut()

    async def close(self) -> None:
        self._line.close()
        await self.connection.invalidate()
        await self.connection.close()
        await self.engine.dispose()


class AsyncEngineDriver:
    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    async def begin(self, timeout: float | None = None) -> AsyncEngineTransaction:
        try:
            connection = await self.engine.connect()
            await connection.begin()
        except UNREACHABLE as error:
            raise Unreachable from error
        return AsyncEngineTransaction(connection, True)

    def join(self, connection: AsyncConnection) -> AsyncEngineTransaction:
        return AsyncEngineTransaction(connection, False)

    async def private(self, timeout: float) -> AsyncEnginePrivate:
        try:
            engine = AsyncEngine(_beside(self.engine.sync_engine))
            connection = await asyncio.wait_for(engine.connect(), timeout)
            if connection.in_transaction():  # a listener's
                await connection.commit()
            line = Line((await connection.get_raw_connection()).driver_connection)
            return AsyncEnginePrivate(engine, await connection.execution_options(isolation_level="AUTOCOMMIT"), line)
        except (*UNREACHABLE, asyncio.TimeoutError) as error:
            raise Unreachable from error

    async def mend(self) -> None:
        """Nothing: SQLAlchemy drops a whole pool when a connection of it broke."""
