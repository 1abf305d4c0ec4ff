"""A shop with one article and two tills: one as everybody writes it, one with pg_idempotent. DSN names the database.

Both tills have the same handler. What may go wrong around it goes wrong on demand: the header X-Mishap of a request says what.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pg_idempotent.asgi import IdempotencyMiddleware, attempt_of

PAGE = Path(__file__).with_name("page.html")
TABLE = 'CREATE TABLE IF NOT EXISTS charge (id bigint GENERATED ALWAYS AS IDENTITY, till text, "order" text, cents bigint)'

pool: AsyncConnectionPool[Any] = AsyncConnectionPool(os.environ["DSN"], min_size=2, max_size=10, open=False)


class Order(BaseModel):
    order: str
    cents: int


async def charge(connection: Any, till: str, order: Order, request: Request) -> JSONResponse:
    insert = 'INSERT INTO charge (till, "order", cents) VALUES (%s, %s, %s) RETURNING id'
    cursor = await connection.execute(insert, (till, order.order, order.cents))
    if request.headers.get("x-mishap") == "killed before commit":
        os._exit(1)
    return JSONResponse({"charge": (await cursor.fetchone())[0]}, 201)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with pool:
        async with pool.connection() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(20)")
            await connection.execute(TABLE)
        yield


class Mishaps:
    """What happens to an answer on its way, behind COMMIT: it gets lost, or the server is killed."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", []))
        mishap = headers.get(b"x-mishap", b"").decode()

        async def on_its_way(message: Message) -> None:
            if mishap == "killed after commit":
                os._exit(1)
            elif mishap != "lost":
                await send(message)

        await self.app(scope, receive, on_its_way)
        if mishap == "lost":
            # Nothing comes any more, and the client is the first to give up.
            while (await receive())["type"] != "http.disconnect":
                pass


app = FastAPI(lifespan=lifespan)
with_keys = FastAPI()
with_keys.add_middleware(IdempotencyMiddleware, pool=pool, operation="checkout", scope=None, required=True)  # a shop with logins: the customer
app.mount("/with", with_keys)
app.add_middleware(Mishaps)


@app.post("/without/pay")
async def pay_without(order: Order, request: Request) -> JSONResponse:
    async with pool.connection() as connection:
        return await charge(connection, "without", order, request)


@with_keys.post("/pay")
async def pay_with(order: Order, request: Request) -> JSONResponse:
    return await charge(attempt_of(request).connection, "with", order, request)


@app.get("/tally")
async def tally(order: str = "") -> dict[str, dict[str, int]]:
    """What each till has charged: for one order, and since the shop opened."""
    counted = """
        SELECT till, count(*) FILTER (WHERE "order" = %s), coalesce(sum(cents) FILTER (WHERE "order" = %s), 0)::bigint,
               count(*), sum(cents)::bigint, count(DISTINCT "order")
          FROM charge GROUP BY till
    """
    names = ("charges", "cents", "all_charges", "all_cents", "all_orders")
    async with pool.connection() as connection:
        rows = await (await connection.execute(counted, (order, order))).fetchall()
    found = {till: dict(zip(names, numbers)) for till, *numbers in rows}
    return {till: found.get(till, dict.fromkeys(names, 0)) for till in ("without", "with")}


@app.get("/")
async def page() -> FileResponse:
    return FileResponse(PAGE)
