"""Where drivers differ. What the rest of the package needs of one, and which one a pool belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Union

from ..sql import Statement

Row = Sequence[Any]


class Transaction(Protocol):
    """An open transaction on a connection of the pool; to end it is to give the connection back."""

    connection: Any

    def rows(self, statement: Statement, parameters: dict[str, Any]) -> list[Row]: ...
    def commit(self) -> None: ...
    def rollback(self) -> None:
        """Never raises, and does nothing once the transaction is over."""

    def retire(self) -> None:
        """The connection will be kept by code that runs on when the transaction is over: a statement of that must fail, and not meet the
        transaction of the next one who is given the connection."""

    @property
    def lost(self) -> bool:
        """Whether the connection broke."""


class Private(Protocol):
    """A connection beside the pool, each statement its own transaction."""

    def rows(self, statement: Statement, parameters: dict[str, Any]) -> list[Row]: ...
    def cut(self) -> None:
        """From another thread, and without waiting: what waits for the server fails."""

    def close(self) -> None: ...


class Driver(Protocol):
    def begin(self, timeout: float | None = None) -> Transaction:
        """Raises Unreachable where there is no connection to be had."""

    def join(self, connection: Any) -> Transaction:
        """The caller's own open transaction, which the caller ends."""

    def private(self, timeout: float) -> Private:
        """Connects within so many seconds, or raises."""

    def mend(self) -> None:
        """After a connection broke: others of the pool may be broken, too."""


class AsyncTransaction(Protocol):
    connection: Any

    async def rows(self, statement: Statement, parameters: dict[str, Any]) -> list[Row]: ...
    async def commit(self) -> None: ...
    async def rollback(self) -> None: ...
    def retire(self) -> None: ...
    @property
    def lost(self) -> bool: ...


class AsyncPrivate(Protocol):
    async def rows(self, statement: Statement, parameters: dict[str, Any]) -> list[Row]: ...
    def cut(self) -> None: ...
    async def close(self) -> None: ...


class AsyncDriver(Protocol):
    async def begin(self, timeout: float | None = None) -> AsyncTransaction: ...
    def join(self, connection: Any) -> AsyncTransaction: ...
    async def private(self, timeout: float) -> AsyncPrivate: ...
    async def mend(self) -> None: ...


def _names(pool: Any) -> set[str]:
    return {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(pool).__mro__}


ASYNC = {"psycopg_pool.AsyncConnectionPool", "psycopg_pool.AsyncNullConnectionPool", "asyncpg.Pool", "sqlalchemy.AsyncEngine"}


def driver_of(pool: Any) -> Driver:
    """A psycopg_pool.ConnectionPool, an SQLAlchemy Engine, or a driver."""
    names = _names(pool)
    if names & {"psycopg_pool.ConnectionPool", "psycopg_pool.NullConnectionPool"}:
        from .psycopg import PsycopgDriver

        return PsycopgDriver(pool)
    if "sqlalchemy.Engine" in names:
        from .sqlalchemy import EngineDriver

        return EngineDriver(pool)
    if hasattr(pool, "begin") and hasattr(pool, "private"):
        driver: Driver = pool
        return driver
    found = f"{type(pool).__module__}.{type(pool).__qualname__}"
    if names & ASYNC:
        raise TypeError(f"{found} is a pool with asyncio: AsyncIdempotent(pool)")
    raise TypeError(f"not a pool that pg_idempotent knows (a psycopg_pool.ConnectionPool, an Engine of SQLAlchemy): {found}")


def async_driver_of(pool: Any) -> AsyncDriver:
    """A psycopg_pool.AsyncConnectionPool, an asyncpg.Pool, an SQLAlchemy AsyncEngine, or a driver; with a pool of driver_of, in threads."""
    names = _names(pool)
    if names & {"psycopg_pool.AsyncConnectionPool", "psycopg_pool.AsyncNullConnectionPool"}:
        from .psycopg import AsyncPsycopgDriver

        return AsyncPsycopgDriver(pool)
    if "asyncpg.Pool" in names:
        from .asyncpg import AsyncpgDriver

        return AsyncpgDriver(pool)
    if "sqlalchemy.AsyncEngine" in names:
        from .sqlalchemy import AsyncEngineDriver

        return AsyncEngineDriver(pool)
    from .threads import ThreadedDriver

    if isinstance(pool, ThreadedDriver):
        return pool
    if getattr(pool, "is_async", False):
        driver: AsyncDriver = pool
        return driver
    return ThreadedDriver(driver_of(pool))


AnyDriver = Union[Driver, AsyncDriver]
