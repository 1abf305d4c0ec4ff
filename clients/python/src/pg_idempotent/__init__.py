"""Idempotency keys in your own Postgres transaction: the client of the extension pg_idempotent."""

from .aio import AsyncIdempotent
from .errors import (
    Evicted,
    Expired,
    Failure,
    IdempotencyError,
    InProgress,
    InvalidKey,
    LeaseLost,
    Mismatch,
    Misrouted,
    NotCompleted,
    NotInstalled,
    RolledBack,
    Sealed,
    Unavailable,
    Unknown,
    sqlstate,
)
from .outcome import Codec, Outcome
from .retry import Retry
from .sync import Attempt, Idempotent, LeaseAttempt

__all__ = [
    "AsyncIdempotent",
    "Attempt",
    "Codec",
    "Evicted",
    "Expired",
    "Failure",
    "IdempotencyError",
    "Idempotent",
    "InProgress",
    "InvalidKey",
    "LeaseAttempt",
    "LeaseLost",
    "Mismatch",
    "Misrouted",
    "NotCompleted",
    "NotInstalled",
    "Outcome",
    "Retry",
    "RolledBack",
    "Sealed",
    "Unavailable",
    "Unknown",
    "sqlstate",
]
