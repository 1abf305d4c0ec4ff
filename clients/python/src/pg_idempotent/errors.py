"""What goes wrong, as exceptions. None says a key, a scope or a body: messages end up in logs. They are attributes, for handlers."""

from __future__ import annotations

from typing import Any

SERIALIZATION_FAILURE, DEADLOCK, UNDEFINED_FUNCTION, IN_FAILED_TRANSACTION = "40001", "40P01", "42883", "25P02"


class IdempotencyError(Exception):
    """The base of all."""

    http_status = 500
    retry_after: float | None = None

    def __init__(self, operation: str, key: str | None = None, scope: str | None = None, *, detail: str = "") -> None:
        self.operation, self.key, self.scope = operation, key, scope
        what = (type(self).__doc__ or "").partition("\n")[0].rstrip(".")
        super().__init__(f'operation "{operation}": {what[:1].lower()}{what[1:]}{f" ({detail})" if detail else ""}')


class InProgress(IdempotencyError):
    """Another attempt holds the key: ask again after ``retry_after`` seconds."""

    http_status = 409

    def __init__(self, operation: str, key: str | None = None, scope: str | None = None, *, retry_after: float | None = None) -> None:
        super().__init__(operation, key, scope)
        self.retry_after = 1.0 if retry_after is None else retry_after


class Mismatch(IdempotencyError):
    """The key was used with another request."""

    http_status = 422


class Expired(IdempotencyError):
    """The key was first sent longer ago than answers are kept."""

    http_status = 412


class Unknown(IdempotencyError):
    """The work may have been done and nobody can tell: see idempotent_resolve."""

    http_status = 409


class Sealed(IdempotencyError):
    """It was decided that this never runs."""

    http_status = 409


class InvalidKey(IdempotencyError):
    """The key, the scope or the operation breaks the rules of names."""

    http_status = 400


class LeaseLost(IdempotencyError):
    """The lease lapsed while the work went on: another attempt may be doing it."""

    http_status = 503
    retry_after = 1.0


class NotCompleted(IdempotencyError):
    """The claim was left without complete() or fail()."""


class RolledBack(IdempotencyError):
    """The body has undone its transaction: the answer is not stored, and nothing it wrote is there."""


class Unavailable(IdempotencyError):
    """The database did not settle the claim in the tries and the time given."""

    http_status = 503
    retry_after = 1.0


class Misrouted(IdempotencyError):
    """The key belongs to another node."""

    http_status = 421


class NotInstalled(IdempotencyError):
    """The extension is not in this database, or not in the search_path: CREATE EXTENSION pg_idempotent."""


class Evicted(IdempotencyError):
    """The work is done, and its answer is not kept: it was too large, or is past its retention."""

    http_status = 410


class Failure(Exception):
    """A final refusal. Raised by a handler it is stored as a failure, without the handler's writes; a repeated call raises it again."""

    def __init__(self, response: Any = None, status: int | None = None) -> None:
        super().__init__("final failure" if status is None else f"final failure, status {status}")
        self.response, self.status = response, status


class Unreachable(Exception):
    """There is no connection, or it broke. What was in its transaction is undone, unless it broke in COMMIT."""


OF_OUTCOME: dict[str, type[IdempotencyError]] = {"mismatch": Mismatch, "expired": Expired, "unknown": Unknown, "sealed": Sealed}
OF_SQLSTATE: dict[str, type[IdempotencyError]] = {"ID003": LeaseLost, "ID006": InvalidKey, "ID010": Misrouted}
FINISHED_OR_GONE = ("ID003", "ID007")


def sqlstate(error: BaseException | None) -> str | None:
    """The SQLSTATE of any driver's exception, wherever a layer above it keeps the original."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        for name in ("sqlstate", "pgcode"):
            code = getattr(error, name, None)
            if isinstance(code, str) and len(code) == 5:
                return code
        original = getattr(error, "orig", None)
        error = original if isinstance(original, BaseException) else error.__cause__
    return None


def is_transient(error: BaseException, lost: bool) -> bool:
    """Whether the same transaction may succeed when it is run again. A lost connection is one even in COMMIT: the next claim tells."""
    return lost or isinstance(error, Unreachable) or sqlstate(error) in (SERIALIZATION_FAILURE, DEADLOCK)


def translated(error: BaseException, operation: str, key: str | None, scope: str) -> BaseException:
    """An error of the extension as an exception of this package; any other as it is."""
    kind = OF_SQLSTATE.get(sqlstate(error) or "")
    # Of a function of the application's own it is the application's error.
    if sqlstate(error) == UNDEFINED_FUNCTION and "idempotent_" in str(error):
        kind = NotInstalled
    return error if kind is None else kind(operation, key, scope, detail=sqlstate(error) or "")
