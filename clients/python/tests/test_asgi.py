"""What the scenarios over HTTP cannot see of the middleware: a COMMIT that fails, a session of the application, a lease that is lost."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any

import httpx
import psycopg
import pytest
import sqlalchemy
from fastapi import Depends, FastAPI, Request
from psycopg_pool import AsyncConnectionPool
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from starlette.responses import JSONResponse, StreamingResponse
from test_drivers import KINDS, execute, opened, url

from pg_idempotent import AsyncIdempotent, Retry
from pg_idempotent.asgi import IdempotencyMiddleware, attempt_of, current, transaction
from pg_idempotent.drivers.sqlalchemy import async_joining

pytestmark = pytest.mark.anyio
INSERT = "INSERT INTO payment (tenant) VALUES (%s)"


def client(app: Any, pool: Any, tenant: str | None, **settings: Any) -> httpx.AsyncClient:
    served = IdempotencyMiddleware(app, pool=pool, scope=lambda request: tenant, **{"operation": "asgi", **settings})
    return httpx.AsyncClient(transport=httpx.ASGITransport(served, raise_app_exceptions=False), base_url="http://test")


def keyed(key: str = "k") -> dict[str, str]:
    return {"Idempotency-Key": key}


async def test_a_commit_that_fails_is_no_201(async_pool, admin, tenant, payments):
    """The first byte waits for COMMIT, which here fails: a constraint is deferred."""
    admin.execute("CREATE TABLE IF NOT EXISTS deferred (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)")
    app = FastAPI()

    @app.post("/pay", status_code=201)
    async def pay(request: Request) -> int:
        await attempt_of(request).connection.execute("INSERT INTO deferred VALUES (1), (1)")
        return 1

    async with client(app, async_pool, tenant) as http:
        assert (await http.post("/pay", headers=keyed())).status_code == 500
    assert admin.execute("SELECT count(*) FROM deferred").fetchone() == (0,)


async def test_a_session_of_the_application_joins(dsn, tenant, payments):
    """FastAPI's own recipe: a dependency that commits when the endpoint is over."""
    engine = create_async_engine(url(dsn, "asyncpg"))
    factory, app = async_sessionmaker(engine, class_=AsyncSession), FastAPI()

    async def session(request: Request):
        async with async_joining(factory, attempt_of(request).connection) as session:
            yield session
            await session.commit()

    @app.post("/pay", status_code=201)
    async def pay(fails: bool, session: AsyncSession = Depends(session)) -> int:  # noqa: B008
        await session.execute(sqlalchemy.text(f"INSERT INTO payment (tenant) VALUES ('{tenant}')"))
        await session.commit()
        await session.execute(sqlalchemy.text(f"INSERT INTO payment (tenant) VALUES ('{tenant}')"))
        if fails:
            raise ZeroDivisionError
        return 1

    async with client(app, engine, tenant) as http:
        assert (await http.post("/pay?fails=true", headers=keyed("a"))).status_code == 500
        assert len(payments) == 0
        found = [await http.post("/pay?fails=false", headers=keyed("b")) for _ in range(2)]
    assert [answer.status_code for answer in found] == [201, 201]
    assert found[1].headers["idempotent-replayed"] == "true"
    assert len(payments) == 2
    await engine.dispose()


async def test_a_pool_without_asyncio_serves_too(pool, tenant, payments):
    app = FastAPI()

    @app.post("/pay")
    def pay(request: Request) -> int:
        assert current() is attempt_of(request)
        attempt_of(request).connection.execute(INSERT, (tenant,))
        return 1

    async with client(app, pool, tenant, wait=timedelta(seconds=20)) as http:
        found = await asyncio.gather(*(http.post("/pay", headers=keyed()) for _ in range(12)))
    assert {answer.status_code for answer in found} == {200}
    assert len(payments) == 1


async def test_forty_duplicates_over_a_pool_of_two(dsn, tenant, payments):
    async with AsyncConnectionPool(dsn, min_size=2, max_size=2, open=False) as pool:
        app = FastAPI()

        @app.post("/pay")
        async def pay(request: Request) -> int:
            async with pool.connection() as second:
                await second.execute("SELECT 1")
            await attempt_of(request).connection.execute(INSERT, (tenant,))
            return 1

        async with client(app, pool, tenant, wait=timedelta(seconds=20)) as http:
            found = await asyncio.gather(*(http.post("/pay", headers=keyed()) for _ in range(40)))
    assert {answer.status_code for answer in found} == {200}
    assert len(payments) == 1


async def test_requests_that_are_refused(async_pool, tenant):
    async def app(scope, receive, send):
        await JSONResponse({})(scope, receive, send)

    async with client(app, async_pool, tenant, max_request_bytes=10) as http:
        assert (await http.post("/", headers=keyed(), content=b"x" * 11)).status_code == 413
        two = await http.post("/", headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")])
        assert two.status_code == 400
        assert (await http.post("/", headers=keyed("a\0b"))).status_code == 400
        assert two.json()["type"].endswith("key-malformed")
    nowhere = AsyncConnectionPool("host=/nonexistent", min_size=0, max_size=1, open=False)
    await nowhere.open()
    async with client(app, nowhere, tenant, retry=Retry(deadline=timedelta(seconds=0.3))) as http:
        down = await http.post("/", headers=keyed())
        assert down.status_code == 503
        assert down.headers["retry-after"] == "1"
    await nowhere.close()


async def test_the_predicate_refuses_to_keep(async_pool, tenant, payments):
    async def app(scope, receive, send):
        await scope["pg_idempotent"].connection.execute(INSERT, (tenant,))
        await JSONResponse({"status": "pending"}, 202)(scope, receive, send)

    async with client(app, async_pool, tenant, store=lambda status, headers: status != 202) as http:
        for _ in range(2):
            answer = await http.post("/", headers=keyed())
            assert answer.status_code == 202
            assert "idempotent-replayed" not in answer.headers
    assert len(payments) == 0


async def test_a_large_stream_is_sent_after_commit(async_pool, tenant, payments):
    seen = []

    async def chunks():
        for _ in range(3):
            seen.append(len(payments))
            yield b"x" * 1_000_000

    async def app(scope, receive, send):
        await scope["pg_idempotent"].connection.execute(INSERT, (tenant,))
        await StreamingResponse(chunks(), headers={"ETag": '"1"'})(scope, receive, send)

    async with client(app, async_pool, tenant) as http:
        first, again = [await http.post("/", headers=keyed()) for _ in range(2)]
    assert len(first.content) == 3_000_000
    assert seen == [0, 0, 1]
    assert (again.content, again.headers["etag"], again.headers["idempotent-evicted"]) == (b"", '"1"', "true")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [200, 503])
async def test_a_stream_cannot_write_into_the_transaction_of_another_request(dsn, tenant, payments, kind, status):
    found, entered, leave = [], asyncio.Event(), asyncio.Event()

    async def chunks(connection, http):
        yield "data: 1\n\n"
        other = asyncio.ensure_future(http.post("/other", headers=keyed("other")))
        await entered.wait()
        try:
            await execute(connection, f"INSERT INTO payment (tenant) VALUES ('{tenant}')")
        except Exception as error:
            found.append(error)
        leave.set()
        yield f"data: {(await other).status_code}\n\n"

    async def app(scope, receive, send):
        connection = scope["pg_idempotent"].connection
        await execute(connection, f"INSERT INTO payment (tenant) VALUES ('{tenant}')")
        if scope["path"] == "/other":
            entered.set()
            await leave.wait()
            return await JSONResponse({}, 201)(scope, receive, send)
        await StreamingResponse(chunks(connection, http), status, media_type="text/event-stream")(scope, receive, send)

    async with opened(kind, dsn, size=1) as pool, client(app, pool, tenant) as http:
        answer = await http.post("/stream", headers=keyed())
    assert (answer.status_code, answer.text) == (status, "data: 1\n\ndata: 201\n\n")
    assert len(found) == 1
    assert len(payments) == (2 if status == 200 else 1)


async def test_a_stream_hears_that_the_client_has_left(async_pool, tenant):
    """An application that listens from the beginning, as Starlette's streams do."""
    gone, sent = asyncio.Event(), []

    async def chunks():
        while True:
            yield "data: 1\n\n"
            await asyncio.sleep(0.01)

    async def receive():
        if not sent:
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)
        if len(sent) == 4:
            gone.set()

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"idempotency-key", b"k")]}
    app = StreamingResponse(chunks(), media_type="text/event-stream")
    served = IdempotencyMiddleware(app, pool=async_pool, operation="asgi", scope=tenant)
    await asyncio.wait_for(served(scope, receive, send), 20)
    assert gone.is_set()


async def test_a_refusal_after_a_database_error_is_sent_and_a_success_is_not(async_pool, tenant):
    async def app(scope, receive, send):
        try:
            await scope["pg_idempotent"].connection.execute("SELECT 1 / 0")
        except Exception:
            await JSONResponse({}, 422 if b"bad" in scope["query_string"] else 201)(scope, receive, send)

    async with client(app, async_pool, tenant) as http:
        assert (await http.post("/?bad", headers=keyed("a"))).status_code == 422
        assert (await http.post("/", headers=keyed("b"))).status_code == 500


@pytest.mark.parametrize("path", ["/keyed", "/own"])
@pytest.mark.parametrize("undone", ["SELECT 1 / 0", "ROLLBACK"])
async def test_a_handler_that_undoes_its_work_and_succeeds_is_500(async_pool, tenant, path, undone):
    async def app(scope, receive, send):
        async with transaction(Request(scope), async_pool) as connection:
            with suppress(psycopg.Error):
                await connection.execute(undone)
        await JSONResponse({}, 201)(scope, receive, send)

    async with client(app, async_pool, tenant) as http:
        headers = keyed() if path == "/keyed" else {}
        expected = 201 if (path, undone) == ("/own", "ROLLBACK") else 500  # which rolls back nothing but what it may
        assert [(await http.post("/", headers=headers)).status_code for _ in range(2)] == [expected] * 2


@pytest.mark.parametrize("mode", ["transaction", "lease"])
@pytest.mark.parametrize("key", [None, '"broken', "x" * 300])
async def test_where_an_operation_is_observed_every_request_goes_through(async_pool, admin, tenant, payments, mode, key):
    operation, status = f"observed {tenant}", 201
    admin.execute("SELECT name FROM idempotent_operation(%s, mode => 'observe')", (operation,))

    async def app(scope, receive, send):
        async with transaction(Request(scope), async_pool) as connection:
            await connection.execute(INSERT, (tenant,))
        if scope["path"] == "/stream":
            return await StreamingResponse(iter(["data: 1\n\n"]), status, media_type="text/event-stream")(scope, receive, send)
        await JSONResponse({}, status)(scope, receive, send)

    async with client(app, async_pool, tenant, operation=operation, required=True, mode=mode) as http:
        headers = {} if key is None else keyed(key)
        assert [(await http.post("/", headers=headers)).status_code for _ in range(2)] == [201, 201]
        assert (await http.post("/stream", headers=headers)).text == "data: 1\n\n"
        assert len(payments) == 3
        status = 503
        assert (await http.post("/", headers=headers)).status_code == 503
    assert len(payments) == (3 if mode == "transaction" else 4)


@pytest.mark.parametrize("wrong", ["the holder works", "another request"])
async def test_an_observed_lease_that_would_be_refused_goes_through(async_pool, admin, tenant, wrong):
    operation, entered, leave = f"observed {tenant}", asyncio.Event(), asyncio.Event()
    admin.execute("SELECT name FROM idempotent_operation(%s, mode => 'observe')", (operation,))
    idem = AsyncIdempotent(async_pool)

    async def app(scope, receive, send):
        if scope["path"] == "/held":
            entered.set()
            await leave.wait()
        elif scope["path"] == "/long":
            await asyncio.sleep(4)
        await JSONResponse({}, 201)(scope, receive, send)

    async with client(app, idem, tenant, operation=operation, mode="lease", lease=timedelta(seconds=3)) as http:
        if wrong == "another request":
            assert (await http.post("/short", headers=keyed())).status_code == 201
            assert (await http.post("/long", headers=keyed())).status_code == 201
        else:
            holder = asyncio.ensure_future(http.post("/held", headers=keyed()))
            await entered.wait()
            assert (await http.post("/long", headers=keyed())).status_code == 201
            leave.set()
            assert (await holder).status_code == 201
    idem.heart.task.cancel()


async def test_a_lease_that_is_lost_is_503_and_not_completed(async_pool, tenant):
    idem = AsyncIdempotent(async_pool)

    async def app(scope, receive, send):
        assert await scope["pg_idempotent"].lost.wait()
        await JSONResponse({})(scope, receive, send)

    async def deaf(timeout):
        raise ConnectionError

    idem.driver.private = deaf
    async with client(app, idem, tenant, mode="lease", lease=timedelta(seconds=0.3)) as http:
        assert (await http.post("/", headers=keyed())).status_code == 503
    idem.heart.task.cancel()


@pytest.mark.parametrize(("mode", "status"), [("transaction", 500), ("lease", 200)])
async def test_a_call_within_a_handler_is_refused_where_that_keeps_a_connection(async_pool, tenant, mode, status):
    async def app(scope, receive, send):
        await AsyncIdempotent(async_pool).run("inner", "k", None, lambda it: it.complete(1), scope=tenant)
        await JSONResponse({})(scope, receive, send)

    async with client(app, async_pool, tenant, mode=mode) as http:
        assert (await http.post("/", headers=keyed())).status_code == status

    async def stream(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        answer = await AsyncIdempotent(async_pool).run("inner", "later", None, lambda it: it.complete(2), scope=tenant)
        await send({"type": "http.response.body", "body": b"data: %d\n\n" % answer})

    async with client(stream, async_pool, tenant, mode=mode) as http:
        assert (await http.post("/", headers=keyed("stream"))).text == "data: 1\n\ndata: 2\n\n"
    async with client(IdempotencyMiddleware(app, pool=async_pool, operation="inner", scope=tenant), async_pool, tenant) as http:
        assert (await http.post("/", headers=keyed("other"))).status_code == 500


async def test_an_exception_leaves_the_lease(async_pool, tenant):
    async def app(scope, receive, send):
        raise ZeroDivisionError

    async with client(app, async_pool, tenant, mode="lease", wait=timedelta(0)) as http:
        assert [(await http.post("/", headers=keyed())).status_code for _ in range(2)] == [500, 409]


async def test_a_request_without_a_key_has_a_transaction_of_its_own(async_pool, tenant, payments):
    app = FastAPI()

    @app.post("/pay")
    async def pay(request: Request) -> int:
        async with transaction(request, async_pool) as connection:
            await connection.execute(INSERT, (tenant,))
        return 1

    async with client(app, async_pool, tenant) as http:
        for headers in ({}, {}, keyed(), keyed()):
            assert (await http.post("/pay", headers=headers)).status_code == 200
    assert len(payments) == 3


async def test_a_request_without_a_scope_is_an_error(async_pool, tenant):
    """Were it everybody's, all whom nobody knows would be told each other's answers."""
    calls = []

    async def app(scope, receive, send):
        calls.append(1)
        await JSONResponse({})(scope, receive, send)

    async with client(app, async_pool, None) as http:
        assert (await http.post("/", headers=keyed())).status_code == 500
    assert calls == []
    async with client(app, async_pool, "") as http:
        assert (await http.post("/", headers=keyed(tenant))).status_code == 200


def lose(idem: AsyncIdempotent, admin: Any, monkeypatch: Any, statement: str) -> None:
    """Loses the connection behind the first COMMIT of a transaction with a statement."""
    begin = idem.driver.begin

    async def losing(timeout=None):
        transaction = await begin(timeout)
        rows = transaction.rows

        async def watch(asked, parameters):
            if statement in asked.pyformat:
                transaction.commit = lost
            return await rows(asked, parameters)

        async def lost():
            await transaction.connection.commit()
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", (transaction.connection.info.backend_pid,))
            monkeypatch.setattr(idem.driver, "begin", begin)
            await transaction.connection.execute("SELECT 1")

        transaction.rows = watch
        return transaction

    monkeypatch.setattr(idem.driver, "begin", losing)


@pytest.mark.parametrize("statement", ["idempotent_http_claim", "idempotent_http_complete", "idempotent_release"])
@pytest.mark.parametrize("status", [201, 503])
async def test_a_lease_whose_commit_loses_its_answer_is_served(async_pool, admin, tenant, monkeypatch, statement, status):
    """Its own lease is no other attempt, and an answer that is stored, or not, is not lost."""
    idem, runs = AsyncIdempotent(async_pool), []
    lose(idem, admin, monkeypatch, statement)

    async def app(scope, receive, send):
        runs.append(1)
        await JSONResponse({"run": len(runs)}, status)(scope, receive, send)

    settings = {"store": lambda status, headers: False} if statement == "idempotent_release" else {}
    async with client(app, idem, tenant, mode="lease", wait=timedelta(0), **settings) as http:
        first, again = [await http.post("/", headers=keyed()) for _ in range(2)]
    is_stored = status == 201 and not settings
    assert (first.status_code, first.json()) == (status, {"run": 1})
    assert (again.status_code, again.json()) == (status, {"run": 1 if is_stored else 2})
    assert ("idempotent-replayed" in again.headers) == is_stored


async def test_a_handler_that_takes_over_is_told(async_pool, tenant):
    found = []

    async def app(scope, receive, send):
        it = scope["pg_idempotent"]
        found.append((it.number, it.checkpoint))
        if it.number == 1:
            await it.save_checkpoint({"sent": True})
            raise ZeroDivisionError
        await JSONResponse({})(scope, receive, send)

    settings = {"mode": "lease", "lease": timedelta(seconds=2), "wait": timedelta(seconds=20)}
    async with client(app, async_pool, tenant, **settings) as http:
        assert [(await http.post("/", headers=keyed())).status_code for _ in range(2)] == [500, 200]
    assert found == [(1, None), (2, {"sent": True})]
