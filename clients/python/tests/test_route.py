"""Which node a key lives on, by the vectors that all clients and the extension are tested with."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from starlette.responses import JSONResponse

from pg_idempotent import AsyncIdempotent, Idempotent, Misrouted
from pg_idempotent.asgi import IdempotencyMiddleware
from pg_idempotent.route import Router, shard, slot

VECTORS = json.loads((Path(__file__).resolve().parents[2] / "conformance" / "vectors" / "identity.json").read_text("utf-8"))


def test_slots_and_shards_are_those_of_the_extension():
    assert len(VECTORS) >= 20
    for vector in VECTORS:
        assert slot(vector["key"], vector["scope"]) == vector["slot"], vector
        assert len(vector["shards"]) >= 8
        for shards, wanted in vector["shards"].items():
            assert shard(vector["slot"], int(shards)) == wanted, (shards, vector)


def test_a_router_asks_for_the_scope_before_the_key():
    router = Router(range(5))
    assert router.of("k", "t1") == router.of("another key", "t1") == 3
    assert router.of("k", "") == router.of("k", None) == 4


def test_there_is_no_router_without_a_node():
    with pytest.raises(ValueError, match="needs a node"):
        Router([])
    with pytest.raises(ValueError, match="without a node"):
        shard(1, 0)


def test_a_call_goes_to_its_node(pool, tenant, payments):
    router = Router([Idempotent(pool) for _ in range(2)])
    node = router.of("k", tenant)
    assert [router.of("k", tenant).run("charge", "k", None, lambda it: 7, scope=tenant) for _ in range(2)] == [7, 7]
    assert node.replay("charge", "k", scope=tenant).response == 7


@pytest.mark.anyio
async def test_a_call_goes_to_its_node_with_asyncio(async_pool, tenant):
    router = Router([AsyncIdempotent(async_pool) for _ in range(2)])

    async def work(it):
        return 7

    assert [await router.of("k", tenant).run("charge", "k", None, work, scope=tenant) for _ in range(2)] == [7, 7]


@pytest.fixture
def nodes(dsn: str) -> Iterator[list[str]]:
    """Two databases of one server: all that the nodes of a router need to be."""
    made = [f"node_{uuid.uuid4().hex[:8]}" for _ in range(2)]
    found = [f"{dsn.rpartition('dbname=')[0]}dbname={name}" for name in made]
    with psycopg.connect(dsn, autocommit=True) as admin:
        for name, node in zip(made, found):
            admin.execute(f"CREATE DATABASE {name}")
            own(node, "CREATE EXTENSION pg_idempotent")
        yield found
        for name in made:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def own(node: str, statement: str = "SELECT idempotent_own('{}')") -> None:
    """A statement in a node; unless given, one after which it answers for no slot."""
    with psycopg.connect(node, autocommit=True) as connection:
        connection.execute(statement)


def test_where_slots_have_moved_the_call_goes_to_the_node_that_has_them(nodes, tenant):
    with ConnectionPool(nodes[0], min_size=1, open=True) as one, ConnectionPool(nodes[1], min_size=1, open=True) as two:
        router, calls = Router([Idempotent(one), Idempotent(two)]), []
        first = router.of("k", tenant)
        own(nodes[router.nodes.index(first)])

        def paid():
            return router.run("k", tenant, lambda node: node.run("charge", "k", None, lambda it: calls.append(1) or 7, scope=tenant))

        assert (paid(), paid(), len(calls)) == (7, 7, 1)
        # Of another key, within the call, no node is to blame; and where none answers, that is the caller's to see.
        with pytest.raises(Misrouted):
            router.run("another key", None, lambda node: first.run("charge", "k", None, lambda it: 7, scope=tenant))
        for node in nodes:
            own(node)
        with pytest.raises(Misrouted) as refused:
            paid()
        assert refused.value.http_status == 421
        assert len(calls) == 1


@pytest.mark.anyio
async def test_a_key_of_another_node_is_421_and_asked_for_there_with_asyncio(nodes, tenant):
    async with AsyncConnectionPool(nodes[0], min_size=1, open=False) as one, AsyncConnectionPool(nodes[1], min_size=1, open=False) as two:
        router = Router([AsyncIdempotent(one), AsyncIdempotent(two)])
        first = router.of("k", tenant)
        own(nodes[router.nodes.index(first)])

        async def work(it):
            return 7

        assert await router.run_async("k", tenant, lambda node: node.run("charge", "k", None, work, scope=tenant)) == 7
        served = IdempotencyMiddleware(JSONResponse({}), pool=first, operation="asgi", scope=lambda request: tenant)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(served), base_url="http://test") as http:
            refused = await http.post("/", headers={"Idempotency-Key": "k"})
        assert refused.status_code == 421
        assert refused.headers["content-type"] == "application/problem+json"
