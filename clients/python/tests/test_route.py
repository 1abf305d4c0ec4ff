"""Which node a key lives on, by the vectors that all clients and the extension are tested with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pg_idempotent import AsyncIdempotent, Idempotent
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
