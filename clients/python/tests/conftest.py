"""The server is the one that PGHOST and PGPORT name; each run has a database of its own."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool, ConnectionPool

pytest_plugins = ["pytester"]


def pytest_configure(config: pytest.Config) -> None:
    if "PGHOST" not in os.environ:
        pytest.exit("these tests need a server with the extension: make test ONLY=python", returncode=4)


@pytest.fixture(scope="session")
def dsn() -> Iterator[str]:
    name = f"python_{uuid.uuid4().hex[:8]}"
    with psycopg.connect("dbname=postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    dsn = f"host={os.environ['PGHOST']} port={os.environ['PGPORT']} user=postgres dbname={name}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION pg_idempotent")
        connection.execute(
            "CREATE TABLE payment (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant text, order_id text, amount numeric)"
        )
    yield dsn
    with psycopg.connect("dbname=postgres", autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def tenant() -> str:
    """A scope of the test's own."""
    return uuid.uuid4().hex


@pytest.fixture
def pool(dsn: str) -> Iterator[ConnectionPool[Any]]:
    with ConnectionPool(dsn, min_size=2, max_size=10, open=True) as pool:
        yield pool


@pytest.fixture
def admin(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection beside all pools."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


class Payments:
    """The payments of a tenant."""

    def __init__(self, admin: psycopg.Connection[Any], tenant: str) -> None:
        self.admin, self.tenant = admin, tenant

    def __len__(self) -> int:
        return int(self.admin.execute("SELECT count(*) FROM payment WHERE tenant = %s", (self.tenant,)).fetchone()[0])  # type: ignore[index]


@pytest.fixture
def payments(admin: psycopg.Connection[Any], tenant: str) -> Payments:
    return Payments(admin, tenant)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def async_pool(dsn: str) -> AsyncIterator[AsyncConnectionPool[Any]]:
    async with AsyncConnectionPool(dsn, min_size=2, max_size=10, open=False) as pool:
        yield pool
