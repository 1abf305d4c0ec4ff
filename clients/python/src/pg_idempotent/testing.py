"""The pytest plugin: a scope of the test's own, duplicates, and what COMMIT would say, for tests that never commit."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Awaitable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, TypeVar

import pytest

from .sql import CHECK

T = TypeVar("T")


class Idempotency:
    """What the fixture `idempotency` offers."""

    def __init__(self) -> None:
        self.scope = f"test-{uuid.uuid4().hex}"
        self._watched: list[Any] = []

    def watch(self, connection: Any) -> Any:
        """Has the open transaction of a connection (psycopg, or SQLAlchemy without asyncio) checked when the test ends."""
        self._watched.append(connection)
        return connection

    def check(self, connection: Any) -> None:
        """Raises ID009 if a claim of the open transaction has no answer: what its COMMIT would say."""
        if type(connection).__module__.startswith("sqlalchemy."):
            connection.exec_driver_sql(CHECK.pyformat)
        else:
            connection.execute(CHECK.pyformat)

    def duplicate(self, call: Callable[[], T]) -> tuple[T, T]:
        """Calls twice at the same time, in two threads; returns both answers, or raises what one of them raises."""
        together = threading.Barrier(2)

        def one() -> T:
            together.wait()
            return call()

        with ThreadPoolExecutor(2) as threads:
            first, second = threads.submit(one), threads.submit(one)
            return first.result(), second.result()

    async def duplicate_async(self, call: Callable[[], Awaitable[T]]) -> tuple[T, T]:
        """The same with asyncio."""
        return await asyncio.gather(call(), call())

    def check_watched(self) -> None:
        for connection in self._watched:
            self.check(connection)


@pytest.fixture
def idempotency() -> Iterator[Idempotency]:
    """A fresh scope, duplicates, and the check of the connections that the test watches."""
    found = Idempotency()
    yield found
    found.check_watched()


@pytest.fixture
def idempotent_scope(idempotency: Idempotency) -> str:
    """A scope of the test's own: no test meets the keys of another one."""
    return idempotency.scope
