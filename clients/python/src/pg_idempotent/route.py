"""Which of several nodes a key lives on. The bytes are those of idempotent_slot and idempotent_shard."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Iterator
from hashlib import sha256
from typing import Callable, Generic, TypeVar

from .errors import Misrouted

SLOTS = 16384
_MULTIPLIER = 2862933555777941757  # of jump consistent hash

N = TypeVar("N")
T = TypeVar("T")


def slot(key: str, scope: str | None) -> int:
    """The slot of an owner: of the scope where there is one, else of the key. It does not depend on the operation, so that all operations
    of one tenant live together."""
    return int.from_bytes(sha256((scope or key).encode()).digest()[:2], "big") % SLOTS


def shard(slot: int, shards: int) -> int:
    """The shard of a slot, of so many: jump consistent hash. From n to n + 1 shards one slot in n + 1 moves, and only to the new shard."""
    if shards < 1:
        raise ValueError("there is no shard without a node")
    key, bucket, jump = slot, 0, 0
    while jump < shards:
        bucket = jump
        key = (key * _MULTIPLIER + 1) % 2**64
        jump = int((bucket + 1) * (2.0**31 / ((key >> 33) + 1)))
    return bucket


class Router(Generic[N]):
    """Nodes, in the order of their shards: an `Idempotent` or `AsyncIdempotent` for each, or whatever else there is one of."""

    def __init__(self, nodes: Iterable[N]) -> None:
        self.nodes = tuple(nodes)
        if not self.nodes:
            raise ValueError("a router needs a node")

    def of(self, key: str, scope: str | None) -> N:
        """The node that a key lives on. The scope is the one of the call; None says that there is one tenant."""
        return self.nodes[shard(slot(key, scope), len(self.nodes))]

    def run(self, key: str, scope: str | None, call: Callable[[N], T]) -> T:
        """Makes a call on the node that the key lives on: `router.run(key, scope, lambda node: node.run(operation, key, ...))`. While slots
        move, this router may know less than the nodes: where one says that the key is another's (`Misrouted`, so that nothing has happened
        there) the others are asked in turn."""
        for node in self._in_turn(key, scope):
            try:
                return call(node)
            except Misrouted as error:
                refused = _of_this_key(error, key, scope)
        raise refused

    async def run_async(self, key: str, scope: str | None, call: Callable[[N], Awaitable[T]]) -> T:
        """The same with asyncio."""
        for node in self._in_turn(key, scope):
            try:
                return await call(node)
            except Misrouted as error:
                refused = _of_this_key(error, key, scope)
        raise refused

    def _in_turn(self, key: str, scope: str | None) -> Iterator[N]:
        first = self.of(key, scope)
        yield first
        yield from (node for node in self.nodes if node is not first)


def _of_this_key(error: Misrouted, key: str, scope: str | None) -> Misrouted:
    """The refusal, to raise it when no node is left. Of a call for another key, within this one, no node is to blame."""
    if (error.key, error.scope or "") != (key, scope or ""):
        raise error
    return error
