"""The same promises over every driver: with asyncio psycopg, asyncpg, SQLAlchemy and threads; without it SQLAlchemy on two drivers."""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import anyio
import asyncpg
import psycopg
import pytest
import sqlalchemy
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from servers import Door
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from pg_idempotent import (
    AsyncIdempotent,
    Failure,
    Idempotent,
    InProgress,
    LeaseLost,
    Mismatch,
    NotCompleted,
    Retry,
    RolledBack,
    Unavailable,
    sqlstate,
)
from pg_idempotent.drivers.sqlalchemy import async_joining, joining

pytestmark = pytest.mark.anyio
QUICK = timedelta(milliseconds=50)


def url(dsn: str, driver: str) -> sqlalchemy.URL:
    parts = dict(part.split("=") for part in dsn.split())
    query = {"host": parts["host"], "port": parts["port"]}
    return sqlalchemy.URL.create(f"postgresql+{driver}", username="postgres", database=parts["dbname"], query=query)


@asynccontextmanager
async def opened(kind: str, dsn: str, size: int = 4) -> AsyncIterator[Any]:
    if kind == "psycopg":
        async with AsyncConnectionPool(dsn, min_size=1, max_size=size, open=False) as pool:
            yield pool
    elif kind == "asyncpg":
        parts = dict(part.split("=") for part in dsn.split())
        pool = await asyncpg.create_pool(host=parts["host"], port=int(parts["port"]), user="postgres", database=parts["dbname"],
                                         min_size=1, max_size=size)  # fmt: skip
        yield pool
        await pool.close()
    elif kind.startswith("sqlalchemy"):
        engine = create_async_engine(url(dsn, kind.partition("+")[2]), pool_size=size, max_overflow=0)
        yield engine
        await engine.dispose()
    else:
        with ConnectionPool(dsn, min_size=1, max_size=size, open=True) as threads:
            yield threads


KINDS = ["psycopg", "asyncpg", "sqlalchemy+psycopg", "sqlalchemy+asyncpg", "threads"]


@pytest.fixture(params=KINDS)
async def idem(request: pytest.FixtureRequest, dsn: str) -> AsyncIterator[AsyncIdempotent]:
    async with opened(request.param, dsn) as pool:
        found = AsyncIdempotent(pool)
        yield found
        if found.heart.task is not None:
            found.heart.task.cancel()
            await asyncio.gather(found.heart.task, return_exceptions=True)


async def execute(connection: Any, statement: str) -> None:
    done = getattr(connection, "exec_driver_sql", connection.execute)(statement)
    if inspect.isawaitable(done):
        await done


async def insert(connection: Any, tenant: str) -> None:
    await execute(connection, f"INSERT INTO payment (tenant, order_id, amount) VALUES ('{tenant}', '1', 1)")


async def backend(connection: Any) -> int:
    statement = "SELECT pg_backend_pid()"
    if hasattr(connection, "exec_driver_sql"):
        return int((await connection.exec_driver_sql(statement)).scalar_one())
    if hasattr(connection, "fetchval"):
        return int(await connection.fetchval(statement))
    return int(connection.info.backend_pid)


async def test_a_decorated_function_happens_once(idem, tenant, payments):
    @idem(operation="charge", key_func=lambda order: order["id"], scope=lambda order: tenant, ttl=timedelta(days=2))
    async def charge(tx, order):
        await insert(tx, tenant)
        return {"order": order, "big": 2**70, "half": 0.5}

    first = await charge({"id": "1"})
    assert first == await charge({"id": "1"}) == {"order": {"id": "1"}, "big": 2**70, "half": 0.5}
    assert len(payments) == 1
    with pytest.raises(Mismatch):
        await charge({"id": "1", "more": None})


async def test_once_lease_and_what_goes_wrong(idem, tenant, payments):
    with pytest.raises(NotCompleted):
        async with idem.once("charge", "k", scope=tenant) as it:
            await insert(it.connection, tenant)
    async with idem.once("charge", "k", {"a": [1]}, scope=tenant) as it:
        key = await it.derive("network")
        with pytest.raises(InProgress):
            await asyncio.ensure_future(idem.run("charge", "k", {"a": [1]}, None, scope=tenant, wait=QUICK))
        await it.fail({"error": "é"}, status=402, headers=[("A", "b")], body=b"\0\xff")
    async with idem.once("charge", "k", {"a": [1]}, scope=tenant) as it:
        assert it.replayed
        assert it.failed
        assert (it.answer, it.status, it.outcome.headers, it.outcome.body) == ({"error": "é"}, 402, [["A", "b"]], b"\0\xff")
    async with idem.lease("charge", "l", scope=tenant, ttl=timedelta(hours=1)) as it:
        assert await it.derive("network") != key
        await it.save_checkpoint([1])
        await it.complete("done", record=lambda connection: insert(connection, tenant))
    assert (await idem.replay("charge", "l", scope=tenant)).response == "done"
    assert len(payments) == 1


async def test_a_failure_is_stored_without_the_writes(idem, tenant, payments):
    async def decline(it):
        await insert(it.connection, tenant)
        raise Failure({"error": "declined"}, 402)

    for work in (decline, None):
        with pytest.raises(Failure) as caught:
            await idem.run("charge", "k", None, work, scope=tenant)
        assert (caught.value.response, caught.value.status) == ({"error": "declined"}, 402)
    assert len(payments) == 0


@pytest.mark.parametrize("undone", ["SELECT 1 / 0", "ROLLBACK"])
async def test_a_body_that_undoes_its_answer_is_told(idem, tenant, payments, undone):
    """COMMIT raises nothing, in place of a failed transaction or of none."""

    async def work(it):
        await it.complete({"ok": 1})
        with suppress(Exception):
            await execute(it.connection, undone)
        if undone == "ROLLBACK":
            await insert(it.connection, tenant)

    with pytest.raises(RolledBack):
        await idem.run("charge", "k", None, work, scope=tenant)
    with pytest.raises(RolledBack):
        async with idem.once("charge", "k", scope=tenant) as it:
            await work(it)
    assert (await idem.replay("charge", "k", scope=tenant)).outcome == "absent"
    assert await idem.run("charge", "k", None, lambda it: it.complete(1), scope=tenant) == 1


async def test_a_repeated_call_that_is_only_observed_goes_through(idem, admin, tenant):
    """Nothing is stored of it, and its transaction may have no id."""
    admin.execute("SELECT idempotent_operation('watched', mode => 'observe')")
    for _ in range(2):
        async with idem.once("watched", "k", scope=tenant) as it:
            await it.complete({"ok": 1})
        assert await idem.run("watched", "k", None, lambda it: it.complete(1), scope=tenant) == 1


async def test_a_lost_connection_runs_the_handler_again(idem, admin, tenant, payments):
    tries = []

    async def work(it):
        tries.append(1)
        await insert(it.connection, tenant)
        if len(tries) == 1:
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", (await backend(it.connection),))
            await insert(it.connection, tenant)

    await idem.run("charge", "k", None, work, scope=tenant)
    assert len(tries) == 2
    assert len(payments) == 1


async def test_40001_and_40p01_run_the_handler_again(idem, tenant, payments):
    tries = []

    async def work(it):
        tries.append(1)
        await insert(it.connection, tenant)
        if len(tries) < 3:
            statement = f"DO $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = '{('40001', '40P01')[len(tries) - 1]}'; END $$"
            await execute(it.connection, statement)

    await idem.run("charge", "k", None, work, scope=tenant)
    assert len(tries) == 3
    assert len(payments) == 1


async def test_a_call_within_the_body_of_another_one_is_refused(idem, tenant, payments):
    @idem(operation="inner", key_func=lambda order: order, scope=tenant)
    async def inner(tx, order):
        await insert(tx, tenant)

    async def outer(it):
        await inner("k")

    with pytest.raises(RuntimeError, match="second connection"):
        await idem.run("outer", "k", None, outer, scope=tenant)
    with pytest.raises(RuntimeError, match="second connection"):
        async with idem.once("outer", "k", scope=tenant):
            await inner("k")
    assert len(payments) == 0
    async with idem.once("outer", "k", scope=tenant) as it:
        later = asyncio.ensure_future(inner("k"))  # what another task does, the body need not wait for
        await it.complete(1)
    await later
    await inner("another")
    assert len(payments) == 2


async def test_duplicates_at_once_have_one_effect(idem, tenant, payments):
    async def work(it):
        await insert(it.connection, tenant)
        return len(payments)

    found = await asyncio.gather(*(idem.run("charge", "k", None, work, scope=tenant, wait=timedelta(seconds=20)) for _ in range(20)))
    assert set(found) == {0}
    assert len(payments) == 1


async def test_a_heartbeat_keeps_the_lease_and_a_lost_one_cancels(idem, admin, tenant):
    async with idem.lease("card", "k", scope=tenant, seconds=3) as it:
        before = (await idem.replay("card", "k", scope=tenant)).expires_at
        until = time.monotonic() + 4
        while time.monotonic() < until:
            await asyncio.sleep(0.1)
            assert not it.lost.is_set()
        assert (await idem.replay("card", "k", scope=tenant)).expires_at > before
        await it.complete(1)

    async def deaf(timeout):
        raise ConnectionError

    idem.heart.task.cancel()
    await asyncio.gather(idem.heart.task, return_exceptions=True)
    idem.driver.private = deaf
    with pytest.raises(LeaseLost):
        async with idem.lease("card", "l", scope=tenant, seconds=0.3, cancel=True):
            await asyncio.sleep(30)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tasks count their cancellations since Python 3.11")
async def test_a_lost_lease_cancels_on_its_own_account(async_pool, tenant):
    idem = AsyncIdempotent(async_pool)

    async def deaf(timeout):
        raise ConnectionError

    async def work(key):
        async with idem.lease("card", key, scope=tenant, seconds=0.2, cancel=True):
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                if key == "cancelled":
                    asyncio.current_task().cancel()
                await asyncio.sleep(0)
                raise

    idem.driver.private = deaf
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as around:
            with pytest.raises(LeaseLost):
                await work("lost")
            assert asyncio.current_task().cancelling() == 0
            around.reschedule(0)
            await asyncio.sleep(30)
    found = await asyncio.gather(asyncio.ensure_future(work("cancelled")), return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    idem.heart.task.cancel()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_beat_that_gets_no_answer_is_repeated_on_another_connection(kind, dsn, tenant):
    with Door(dsn) as door:
        async with opened(kind, door.dsn) as pool:
            idem = AsyncIdempotent(pool)
            await idem.replay("card", "k", scope=tenant)
            pooled = door.connections
            async with idem.lease("card", "k", scope=tenant, seconds=3) as it:
                for _ in range(2):
                    at = (await idem.replay("card", "k", scope=tenant)).expires_at
                    while (await idem.replay("card", "k", scope=tenant)).expires_at <= at:
                        assert not it.lost.is_set()
                        await asyncio.sleep(0.02)
                    door.swallow(from_number=pooled)
                assert door.connections == pooled + 2
                await it.complete(1)
            idem.heart.task.cancel()
            await asyncio.gather(idem.heart.task, return_exceptions=True)


async def test_a_cancelled_caller_leaves_nothing(idem, tenant, payments):
    entered = asyncio.Event()

    async def work(it):
        await insert(it.connection, tenant)
        entered.set()
        await asyncio.sleep(30)

    task = asyncio.ensure_future(idem.run("charge", "k", None, work, scope=tenant))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(payments) == 0
    assert (await idem.replay("charge", "k", scope=tenant)).outcome == "absent"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_scope_of_anyio_that_ends_gives_the_connection_back(kind, dsn, tenant, payments):
    """Such a scope cancels at every await, that of ROLLBACK too, which here waits for a thread."""
    async with opened(kind, dsn, size=1) as pool:
        idem, quiet = AsyncIdempotent(pool), threading.Event()

        async def work(it):
            await insert(it.connection, tenant)
            for _ in range(16 if kind == "threads" else 0):
                idem.driver._threads.submit(quiet.wait, 20)
            scope.cancel()
            await asyncio.sleep(30)

        with anyio.CancelScope() as scope:
            await idem.run("charge", "k", None, work, scope=tenant)
        assert scope.cancelled_caught
        quiet.set()
        await asyncio.wait_for(idem.run("charge", "k", None, lambda it: insert(it.connection, tenant), scope=tenant), 20)
    assert len(payments) == 1


@pytest.fixture
def slow(admin: psycopg.Connection[Any], tenant: str) -> Iterator[str]:
    """A table whose rows COMMIT waits for, until the connection `admin` gives way."""
    admin.execute(f"""
        CREATE TABLE "{tenant}" (id int);
        CREATE FUNCTION "{tenant}"() RETURNS trigger LANGUAGE plpgsql AS $$
          BEGIN PERFORM pg_advisory_xact_lock(5, 5); RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON "{tenant}" DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION "{tenant}"();
        SELECT pg_advisory_lock(5, 5);
    """)
    yield f'"{tenant}"'
    admin.execute(f'SELECT pg_advisory_unlock_all(); DROP TABLE "{tenant}"; DROP FUNCTION "{tenant}"')


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by", ["task", "scope"])
async def test_whoever_is_cancelled_in_commit_gives_the_connection_back_once(kind, by, dsn, admin, slow, tenant):
    async def cancel():
        waiting = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND (classid, objid) = (5, 5) AND NOT granted"
        while admin.execute(waiting).fetchone() is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        (scope if by == "scope" else task).cancel()
        await asyncio.sleep(0.1)  # in which a ROLLBACK could overtake
        admin.execute("SELECT pg_advisory_unlock_all()")

    async def work(it):
        await execute(it.connection, f"INSERT INTO {slow} VALUES (1)")

    async def run():
        with scope:
            await idem.run("charge", "k", None, work, scope=tenant)

    async with opened(kind, dsn, size=1) as pool:
        idem, scope = AsyncIdempotent(pool), anyio.CancelScope()
        task = asyncio.ensure_future(run())
        await cancel()
        found = await asyncio.gather(task, return_exceptions=True)
        assert found == [None] if by == "scope" else isinstance(found[0], asyncio.CancelledError)
        outcome = (await asyncio.wait_for(idem.replay("charge", "k", scope=tenant), 20)).outcome
        rows = admin.execute(f"SELECT count(*) FROM {slow}").fetchone()
        assert (outcome, rows) in [("replay", (1,)), ("absent", (0,))]


@pytest.mark.parametrize("kind", ["psycopg", "asyncpg", "sqlalchemy+asyncpg"])
async def test_without_a_server_it_is_unavailable(kind, dsn, tenant):
    nowhere = dsn.replace("host=/", "host=/nonexistent/")
    if kind == "psycopg":
        pool: Any = AsyncConnectionPool(nowhere, min_size=0, max_size=1, open=False)
        await pool.open()
    elif kind == "asyncpg":
        pool = asyncpg.create_pool(host="/nonexistent", user="postgres", min_size=0)
        await pool
    else:
        pool = create_async_engine(url(nowhere, "asyncpg"))
    with pytest.raises(Unavailable):
        await AsyncIdempotent(pool, retry=Retry(deadline=timedelta(seconds=0.3))).run("charge", "k", None, None, scope=tenant)


async def test_an_async_session_joins_the_transaction(dsn, tenant, payments):
    async with opened("sqlalchemy+asyncpg", dsn) as engine:
        idem, factory = AsyncIdempotent(engine), async_sessionmaker(engine, class_=AsyncSession)

        async def work(it, fails):
            async with async_joining(factory, it.connection) as session:
                await session.execute(sqlalchemy.text(f"INSERT INTO payment (tenant) VALUES ('{tenant}')"))
                await session.commit()
            if fails:
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await idem.run("charge", "k", None, lambda it: work(it, True), scope=tenant)
        assert len(payments) == 0
        await idem.run("charge", "k", None, lambda it: work(it, False), scope=tenant)
    assert len(payments) == 1


def test_an_engine_and_a_session_without_asyncio(dsn, tenant, payments):
    engine = sqlalchemy.create_engine(url(dsn, "psycopg"))
    idem, factory = Idempotent.from_engine(engine), sessionmaker(engine, class_=Session)

    def work(it, fails):
        with joining(factory, it.connection) as session:
            session.execute(sqlalchemy.text(f"INSERT INTO payment (tenant) VALUES ('{tenant}')"))
            session.commit()
        if fails:
            raise ZeroDivisionError
        return 7

    with pytest.raises(ZeroDivisionError):
        idem.run("charge", "k", None, lambda it: work(it, True), scope=tenant)
    assert len(payments) == 0
    assert idem.run("charge", "k", None, lambda it: work(it, False), scope=tenant) == 7
    assert idem.run("charge", "k", None, lambda it: work(it, False), scope=tenant) == 7
    assert len(payments) == 1
    with idem.lease("card", "k", scope=tenant, seconds=3) as it:
        assert not it.lost.wait(4)
        it.complete(1)
    engine.dispose()


def test_an_engine_whose_connection_breaks(dsn, admin, tenant, payments):
    engine = sqlalchemy.create_engine(url(dsn, "psycopg"))
    tries = []

    def work(it):
        tries.append(1)
        if len(tries) == 1:
            pid = it.connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        it.connection.exec_driver_sql(f"INSERT INTO payment (tenant) VALUES ('{tenant}')")

    Idempotent(engine).run("charge", "k", None, work, scope=tenant)
    assert len(tries) == 2
    assert len(payments) == 1
    engine.dispose()


@pytest.mark.parametrize("undone", ["SELECT 1 / 0", "ROLLBACK", "SAVEPOINT"])
def test_a_body_without_asyncio_that_undoes_its_answer_is_told(dsn, tenant, payments, undone):
    engine = sqlalchemy.create_engine(url(dsn, "psycopg"))
    with ConnectionPool(dsn, min_size=1, max_size=1, open=True) as pool:
        for idem in (Idempotent(pool), Idempotent(engine)):

            def work(it):
                execute = getattr(it.connection, "exec_driver_sql", it.connection.execute)
                if undone == "SAVEPOINT":  # within the claim, so that the server still asks for an answer
                    execute("SAVEPOINT s")
                it.complete({"ok": 1})
                if undone == "SAVEPOINT":
                    execute("ROLLBACK TO s")
                elif undone == "ROLLBACK":
                    it.connection.rollback()
                    execute(f"INSERT INTO payment (tenant) VALUES ('{tenant}')")
                else:
                    with suppress(Exception):
                        execute(undone)

            with pytest.raises(Exception) as caught:  # noqa: PT011
                idem.run("charge", "k", None, work, scope=tenant)
            assert sqlstate(caught.value) == "ID009" if undone == "SAVEPOINT" else isinstance(caught.value, RolledBack)
            with pytest.raises(Exception) as caught, idem.once("charge", "k", scope=tenant) as it:  # noqa: PT011
                work(it)
            assert sqlstate(caught.value) == "ID009" if undone == "SAVEPOINT" else isinstance(caught.value, RolledBack)
            assert idem.replay("charge", "k", scope=tenant).outcome == "absent"
    engine.dispose()
    assert len(payments) == 0


def test_a_retired_connection_goes_also_where_closing_returns_it(dsn):
    try:
        pool = ConnectionPool(dsn, min_size=1, max_size=1, open=True, close_returns=True)
    except TypeError:
        pytest.skip("of psycopg_pool 3.3")
    with pool:
        transaction = Idempotent(pool).driver.begin()
        held = transaction.connection
        transaction.retire()
        transaction.rollback()
        assert held.closed
        with pool.connection() as another:
            assert another is not held


@pytest.fixture
def elsewhere(dsn: str, admin: psycopg.Connection[Any], tenant: str) -> Iterator[str]:
    """A database with the extension in a schema that is in no search_path unless the application says so."""
    name = f"elsewhere_{tenant[:8]}"
    admin.execute(f"CREATE DATABASE {name}")
    found = f"{dsn.rpartition('dbname=')[0]}dbname={name}"
    with psycopg.connect(found, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA idem; CREATE EXTENSION pg_idempotent SCHEMA idem")
    yield found
    admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


SEARCH = "SET search_path = idem"


@asynccontextmanager
async def prepared(kind: str, dsn: str) -> AsyncIterator[Any]:
    """A pool that prepares its connections."""

    def configure(connection):
        connection.execute(SEARCH)
        connection.commit()

    async def configure_async(connection):
        await connection.execute(SEARCH)
        await connection.commit()

    def on_connect(connection, record):
        with connection.cursor() as cursor:
            cursor.execute(SEARCH)
        connection.commit()

    if kind == "psycopg":
        async with AsyncConnectionPool(dsn, min_size=1, open=False, configure=configure_async) as pool:
            yield pool
    elif kind == "threads":
        with ConnectionPool(dsn, min_size=1, open=True, configure=configure) as pool:
            yield pool
    elif kind == "asyncpg":
        parts = dict(part.split("=") for part in dsn.split())
        where = {"host": parts["host"], "port": int(parts["port"]), "user": "postgres", "database": parts["dbname"]}
        calls = {
            "init": lambda it: it.execute("CREATE TEMP TABLE found AS SELECT 'idem' AS schema"),
            "setup": lambda it: it.execute("SELECT set_config('search_path', schema, false) FROM found"),
        }
        async with asyncpg.create_pool(**where, min_size=1, **calls) as pool:
            yield pool
    else:
        engine = create_async_engine(url(dsn, kind.partition("+")[2].partition(" ")[0]))
        if kind.endswith("engine_connect"):
            sqlalchemy.event.listen(engine.sync_engine, "engine_connect", lambda it: it.exec_driver_sql(SEARCH) and it.commit())
        else:
            sqlalchemy.event.listen(engine.sync_engine, "connect", on_connect)
        yield engine
        await engine.dispose()


PREPARED = [
    "psycopg",
    "threads",
    "asyncpg",
    "sqlalchemy+psycopg",
    "sqlalchemy+asyncpg",
    "sqlalchemy+psycopg engine_connect",
]


@pytest.mark.parametrize("kind", PREPARED)
async def test_the_heartbeat_has_what_the_pool_gives_its_connections(kind, elsewhere, tenant):
    async with prepared(kind, elsewhere) as pool:
        idem = AsyncIdempotent(pool)
        async with idem.lease("card", "k", scope=tenant, seconds=3) as it:
            for _ in range(3):
                at = (await idem.replay("card", "k", scope=tenant)).expires_at
                while (await idem.replay("card", "k", scope=tenant)).expires_at == at:
                    assert not it.lost.is_set()
                    await asyncio.sleep(0.02)
            await it.complete(1)
        idem.heart.task.cancel()
        await asyncio.gather(idem.heart.task, return_exceptions=True)


def test_the_heartbeat_without_asyncio_has_what_the_engine_gives_its_connections(elsewhere, tenant):
    engine = sqlalchemy.create_engine(url(elsewhere, "psycopg"))
    sqlalchemy.event.listen(engine, "engine_connect", lambda it: it.exec_driver_sql(SEARCH) and it.commit())
    with Idempotent(engine).lease("card", "k", scope=tenant, seconds=3) as it:
        assert not it.lost.wait(4)
        it.complete(1)
    engine.dispose()
