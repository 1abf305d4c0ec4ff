"""Which of several nodes a key lives on. The bytes are those of idempotent_slot and idempotent_shard."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Generic, TypeVar

SLOTS = 16384
_MULTIPLIER = 2862933555777941757  # of jump consistent hash

N = TypeVar("N")


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
