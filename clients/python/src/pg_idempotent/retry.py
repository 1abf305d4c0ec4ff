"""When to try again: after a transient error, and while another attempt holds the key."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from datetime import timedelta

FIRST_POLL, LAST_POLL = 0.02, 0.25  # seconds


@dataclass(frozen=True)
class Retry:
    """How often a transaction is run that meets 40001, 40P01 or a lost connection: with full jitter, within a deadline."""

    tries: int = 5
    deadline: timedelta = timedelta(seconds=30)
    base: float = 0.02
    cap: float = 1.0

    def start(self) -> Budget:
        return Budget(self)


class Budget:
    """The tries and the time of one call."""

    def __init__(self, policy: Retry) -> None:
        self.policy = policy
        self.used = 0
        self.until = time.monotonic() + policy.deadline.total_seconds()

    def left(self) -> float:
        return max(self.until - time.monotonic(), 0.0)

    def after_failure(self) -> float | None:
        """How long to sleep before the next try; None if there is none."""
        self.used += 1
        delay = random.uniform(0, min(self.policy.cap, self.policy.base * 2**self.used))
        return delay if self.used < self.policy.tries and delay < self.left() else None


class Polls:
    """The pauses of a call that finds its key held: 20 ms, doubling up to 250 ms, for the wait."""

    def __init__(self, wait: timedelta) -> None:
        self.until = time.monotonic() + wait.total_seconds()
        self.pause = FIRST_POLL

    def next(self) -> float | None:
        left = self.until - time.monotonic()
        if left <= 0:
            return None
        pause, self.pause = min(self.pause, left), min(self.pause * 2, LAST_POLL)
        return pause
