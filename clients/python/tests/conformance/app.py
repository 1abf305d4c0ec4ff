"""The application of clients/conformance, on Starlette. DSN, MODE (transaction or lease) and TRIES, a directory, are in the environment."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from pg_idempotent import AsyncIdempotent
from pg_idempotent.asgi import IdempotencyMiddleware

MODE = os.environ.get("MODE", "transaction")
SETTINGS: dict[str, Any] = {"prepare_threshold": None} if os.environ.get("PREPARED") == "0" else {}
pool: AsyncConnectionPool[Any] = AsyncConnectionPool(os.environ["DSN"], min_size=2, max_size=10, open=False, kwargs=SETTINGS)
idempotent = AsyncIdempotent(pool)
gates: dict[str, tuple[asyncio.Event, asyncio.Event]] = {}


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with pool:
        async with pool.connection() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(20)")
            await connection.execute(
                'CREATE TABLE IF NOT EXISTS conformance_effect (id bigint GENERATED ALWAYS AS IDENTITY, "case" text NOT NULL)'
            )
            await connection.execute("SELECT name FROM idempotent_operation('conformance', max_response_bytes => 100000)")
        yield


async def effect(request: Request) -> int:
    insert, case = 'INSERT INTO conformance_effect ("case") VALUES (%s) RETURNING id', request.headers.get("x-case", "")
    it = request.scope.get("pg_idempotent")
    if it is not None and MODE == "transaction":
        cursor = await it.connection.execute(insert, (case,))
        return int((await cursor.fetchone())[0])
    async with pool.connection() as connection:
        return int((await (await connection.execute(insert, (case,))).fetchone())[0])  # type: ignore[index]


def paid(number: int) -> Response:
    headers = {"Location": f"/pay/{number}", "ETag": f'"{number}"', "Set-Cookie": f"session={number}", "X-Request-Id": str(number)}
    return JSONResponse({"payment": number}, 201, headers)


async def pay(request: Request) -> Response:
    return paid(await effect(request))


async def echo(request: Request) -> Response:
    await effect(request)
    return Response(await request.body(), media_type=request.headers.get("content-type", "application/octet-stream"))


async def status(request: Request) -> Response:
    code, number = int(request.query_params["code"]), await effect(request)
    headers = {"ETag": f'"{number}"', **({"Retry-After": "1"} if code in (429, 503) else {})}
    if code in (204, 304):
        return Response(status_code=code, headers=headers, media_type="application/json")
    return JSONResponse({"effect": number}, code, headers)


async def large(request: Request) -> Response:
    number = await effect(request)
    return Response("x" * int(request.query_params["bytes"]), media_type="text/plain", headers={"ETag": f'"{number}"'})


async def stream(request: Request) -> Response:
    number = await effect(request)

    async def chunks() -> AsyncIterator[str]:
        for _ in range(int(request.query_params["chunks"])):
            yield f"data: {number}\n\n"
            if "gate" in request.query_params:
                await pass_gate(request)

    return StreamingResponse(chunks(), media_type="text/event-stream", headers={"ETag": f'"{number}"'})


async def deferred(request: Request) -> Response:
    """Inserts what only COMMIT refuses."""
    table = "CREATE TEMP TABLE deferred (id int UNIQUE DEFERRABLE INITIALLY DEFERRED) ON COMMIT DROP"
    await request.scope["pg_idempotent"].connection.execute(f"{table}; INSERT INTO deferred VALUES (1), (1)")
    return await (stream if "chunks" in request.query_params else pay)(request)


async def fall(request: Request) -> Response:
    await effect(request)
    raise ZeroDivisionError


def is_among_first(request: Request) -> bool:
    """Whether this try of the key is one of the first `times`. A file outlives the process."""
    name = request.headers["idempotency-key"].strip('" ').encode().hex()
    with open(Path(os.environ["TRIES"]) / name, "a+") as file:
        file.write("x")
        return file.tell() <= int(request.query_params["times"])


async def conflict(request: Request) -> Response:
    number = await effect(request)
    if is_among_first(request):
        raise psycopg.errors.SerializationFailure
    return paid(number)


async def crash(request: Request) -> Response:
    number = await effect(request)
    if is_among_first(request):
        os._exit(1)
    return paid(number)


def gate(name: str) -> tuple[asyncio.Event, asyncio.Event]:
    return gates.setdefault(name, (asyncio.Event(), asyncio.Event()))


async def pass_gate(request: Request) -> None:
    entered, opened = gate(request.query_params["gate"])
    entered.set()
    await asyncio.wait_for(opened.wait(), 30)


async def held(request: Request) -> Response:
    number = await effect(request)
    await pass_gate(request)
    return paid(number)


async def gate_entered(request: Request) -> Response:
    try:
        await asyncio.wait_for(gate(request.query_params["gate"])[0].wait(), 30)
    except asyncio.TimeoutError:
        return Response(status_code=504)
    return Response(status_code=204)


async def gate_open(request: Request) -> Response:
    gate(request.query_params["gate"])[1].set()
    return Response(status_code=204)


async def effects(request: Request) -> Response:
    async with pool.connection() as connection:
        counted = 'SELECT count(*) FROM conformance_effect WHERE "case" = %s'
        return JSONResponse((await (await connection.execute(counted, (request.query_params["case"],))).fetchone())[0])  # type: ignore[index]


def is_required(request: Request) -> bool:
    return request.url.path not in ("/optional", "/gate")


POST = {"/refund": pay, "/optional": pay, "/echo": echo, "/status": status, "/large": large, "/stream": stream, "/deferred": deferred,
        "/raise": fall, "/conflict": conflict, "/held": held, "/crash": crash, "/gate": gate_open}  # fmt: skip
app = Starlette(
    routes=[
        Route("/pay", pay, methods=["POST", "PATCH"]),
        *(Route(path, endpoint, methods=["POST"]) for path, endpoint in POST.items()),
        Route("/gate", gate_entered, methods=["GET"]),
        Route("/effects", effects, methods=["GET"]),
    ],
    middleware=[
        Middleware(
            IdempotencyMiddleware, pool=idempotent, operation="conformance", scope=lambda request: request.headers.get("x-tenant", ""),
            required=is_required, mode=MODE, wait=timedelta(seconds=0.2), max_response_bytes=100_000, release_on_error=True,
        )
    ],
    lifespan=lifespan,
)  # fmt: skip
