"""The client without asyncio: decorator, once and lease."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Callable, NoReturn, TypeVar, Union
from uuid import UUID, uuid4

from . import telemetry
from .attempt import Headers, State, checked_identity, scope_of
from .drivers import Row, Transaction, driver_of
from .errors import (
    FINISHED_OR_GONE,
    IN_FAILED_TRANSACTION,
    Failure,
    LeaseLost,
    RolledBack,
    Unavailable,
    Unreachable,
    is_transient,
    sqlstate,
    translated,
)
from .heart import Held
from .lease import Heart, Lost
from .nested import refuse_nested, within
from .outcome import Codec, Outcome
from .retry import Budget, Polls, Retry
from .sql import CHECKPOINT, CLAIM, COMPLETE, DERIVE_KEY, FAIL, RELEASE, REPLAY, STANDS, Statement

if TYPE_CHECKING:
    from typing_extensions import Concatenate, ParamSpec

    from .aio import AsyncIdempotent

    P = ParamSpec("P")
R = TypeVar("R")
Text = Union[str, Callable[..., str]]
OptionalText = Union[str, Callable[..., str], None]
TWO_SECONDS = timedelta(seconds=2)


class Attempt(State):
    """An attempt in a transaction that is open until its body ends."""

    def __init__(self, transaction: Transaction, *state: Any) -> None:
        super().__init__(*state)
        self.transaction = transaction

    @property
    def connection(self) -> Any:
        """The connection of the transaction that holds the claim: what it writes is committed with the answer."""
        return self.transaction.connection

    def complete(
        self, response: Any = None, *, status: int | None = None, headers: Headers | None = None, body: bytes | None = None
    ) -> Any:
        """Stores the answer, and returns it as it is stored."""
        return self.store(self.transaction.rows(COMPLETE, self.parameters(response, status, headers, body, self.ttl))[0])

    def fail(
        self,
        response: Any = None,
        *,
        status: int | None = None,
        headers: Headers | None = None,
        body: bytes | None = None,
        ttl: timedelta | None = None,
    ) -> Any:
        """Stores a final failure; what the body has written is committed with it."""
        return self.store(self.transaction.rows(FAIL, self.parameters(response, status, headers, body, ttl))[0])

    def derive(self, label: str) -> UUID:
        """A key for a call to another system: the same in every attempt."""
        return UUID(self.transaction.rows(DERIVE_KEY, self.identity(label=label))[0][0])

    def check_stands(self) -> None:
        """Raises if COMMIT would not store the answer: the body has caught an error of a statement, or ended the transaction itself."""
        try:
            rows = self.transaction.rows(STANDS, {"xid": self.xid})
        except Exception as error:
            if sqlstate(error) == IN_FAILED_TRANSACTION:
                raise RolledBack(self.operation, self.key, self.scope) from error
            raise
        if not rows[0][0]:
            raise RolledBack(self.operation, self.key, self.scope)


class LeaseAttempt(State):
    """An attempt that holds a lease, and no connection."""

    def __init__(self, idempotent: Idempotent, *state: Any) -> None:
        super().__init__(*state)
        self.idempotent = idempotent
        self.lost = Lost()

    def complete(
        self,
        response: Any = None,
        *,
        status: int | None = None,
        headers: Headers | None = None,
        body: bytes | None = None,
        record: Callable[[Any], object] | None = None,
    ) -> Any:
        """Stores the answer, unless the lease is lost. `record(connection)` writes in the same transaction."""
        return self._finish(COMPLETE, self.parameters(response, status, headers, body, self.ttl), record)

    def fail(
        self,
        response: Any = None,
        *,
        status: int | None = None,
        headers: Headers | None = None,
        body: bytes | None = None,
        ttl: timedelta | None = None,
        record: Callable[[Any], object] | None = None,
    ) -> Any:
        """Stores a final failure, unless the lease is lost."""
        return self._finish(FAIL, self.parameters(response, status, headers, body, ttl), record)

    def release(self) -> None:
        """Gives the key back. Only where it is certain that nothing was done."""
        parameters = self.identity(fence=self.fence)
        self.idempotent._in_transaction(self, lambda transaction: transaction.rows(RELEASE, parameters), lambda rows: True)
        self.finished = True

    def save_checkpoint(self, checkpoint: Any) -> None:
        """Leaves word for the attempt that takes over."""
        parameters = self.identity(fence=self.fence, checkpoint=self.codec.encode(checkpoint))
        self.idempotent._in_transaction(self, lambda transaction: transaction.rows(CHECKPOINT, parameters))

    def derive(self, label: str) -> UUID:
        """A key for a call to another system: the same in every attempt."""
        return UUID(
            self.idempotent._in_transaction(self, lambda transaction: transaction.rows(DERIVE_KEY, self.identity(label=label)))[0][0]
        )

    def _finish(self, statement: Statement, parameters: dict[str, Any], record: Callable[[Any], object] | None) -> Any:
        if self.lost.is_set():
            raise LeaseLost(self.operation, self.key, self.scope)

        def work(transaction: Transaction) -> list[Row]:
            if record is not None:
                record(transaction.connection)
            return transaction.rows(statement, parameters)

        return self.store(self.idempotent._in_transaction(self, work)[0])


class Idempotent:
    """Operations that happen once. One for each pool of a process."""

    def __init__(self, pool: Any, *, wait: timedelta = TWO_SECONDS, retry: Retry | None = None, codec: Codec | None = None) -> None:
        self.pool, self.driver = pool, driver_of(pool)
        self.wait, self.retry, self.codec = wait, retry or Retry(), codec or Codec()
        self.heart = Heart(self.driver)

    @classmethod
    def from_engine(cls, engine: Any, **options: Any) -> Idempotent:
        """Of an SQLAlchemy engine."""
        return cls(engine, **options)

    @staticmethod
    def aio(pool: Any, **options: Any) -> AsyncIdempotent:
        """The client with asyncio."""
        from .aio import AsyncIdempotent

        return AsyncIdempotent(pool, **options)

    def __call__(
        self,
        *,
        operation: str,
        key_func: Callable[..., str],
        scope: OptionalText,
        ttl: timedelta | None = None,
        request: Callable[..., Any] | None = None,
        wait: timedelta | None = None,
    ) -> Callable[[Callable[Concatenate[Any, P], R]], Callable[P, R]]:
        """Makes a function of (connection, arguments) happen once for each key. What it returns is stored and committed with its writes."""

        def decorate(function: Callable[Concatenate[Any, P], R]) -> Callable[P, R]:
            request_of = request or request_of_arguments(function)
            if inspect.iscoroutinefunction(function):
                raise TypeError("a function with async is for AsyncIdempotent")

            @functools.wraps(function)
            def once(*args: P.args, **kwargs: P.kwargs) -> R:
                result: R = self.run(
                    operation,
                    key_func(*args, **kwargs),
                    request_of(*args, **kwargs),
                    lambda it: function(it.connection, *args, **kwargs),
                    scope=scope_of(scope, *args, **kwargs),
                    ttl=ttl,
                    wait=wait,
                )
                return result

            return once

        return decorate

    def run(
        self,
        operation: str,
        key: str,
        request: Any,
        work: Callable[[Attempt], Any],
        *,
        scope: str | None,
        ttl: timedelta | None = None,
        wait: timedelta | None = None,
    ) -> Any:
        """Runs the work in the claim's transaction and stores what it returns; runs it again after a transient error."""
        budget = self.retry.start()
        while True:
            it = self._claim(budget, operation, key, request, scope, ttl, wait)
            if it.replayed:
                return it.result()
            try:
                with within(self.pool):
                    answer = work(it)
                if it.finished:
                    it.check_stands()
                else:
                    it.complete(answer)
                it.transaction.commit()
                return it.answer
            except Failure as failure:
                it.transaction.rollback()
                return self._fail(failure, operation, key, request, scope, wait)
            except Exception as error:
                lost = it.transaction.lost
                it.transaction.rollback()
                self._again(budget, error, lost, operation, key, it.scope)
            except BaseException:
                it.transaction.rollback()
                raise

    def _fail(self, failure: Failure, operation: str, key: str, request: Any, scope: str | None, wait: timedelta | None) -> Any:
        """Stores a failure without the writes of its attempt, unless another attempt was faster."""
        with self.once(operation, key, request, scope=scope, wait=wait) as it:
            if it.replayed:
                return it.result()
            answer = it.fail(failure.response, status=failure.status)
        raise Failure(answer, failure.status) from failure

    @contextmanager
    def once(
        self,
        operation: str,
        key: str,
        request: Any = None,
        *,
        scope: str | None,
        ttl: timedelta | None = None,
        wait: timedelta | None = None,
        connection: Any = None,
    ) -> Iterator[Attempt]:
        """Claims the key for the body. With a `connection` the claim joins its open transaction, and does not wait."""
        it = self._claim(self.retry.start(), operation, key, request, scope, ttl, wait, connection)
        try:
            with nullcontext() if it.replayed or connection is not None else within(self.pool):
                yield it
            it.check_finished()
            if not it.replayed and connection is None:
                it.check_stands()
                it.transaction.commit()
        except BaseException as error:
            lost = it.transaction.lost
            it.transaction.rollback()
            if lost and isinstance(error, Exception):
                raise Unavailable(operation, key, it.scope, detail="the connection broke") from error
            raise_translated(error, operation, key, it.scope)

    @contextmanager
    def lease(
        self,
        operation: str,
        key: str,
        request: Any = None,
        *,
        scope: str | None,
        seconds: float = 30.0,
        ttl: timedelta | None = None,
        wait: timedelta | None = None,
    ) -> Iterator[LeaseAttempt]:
        """Claims the key with a lease that is extended in the background. Left without an answer, the lease is left to lapse: the work may
        have been done."""
        it, asked = self._claim_lease(operation, key, request, scope, ttl, wait, seconds)
        if it.replayed:
            yield it
            return
        assert it.fence is not None
        held = Held(operation, it.scope, key, it.fence, seconds, asked, it.lost.set)
        it.lost.held = held
        self.heart.hold(held)
        try:
            yield it
            it.check_finished()
        finally:
            self.heart.let_go(held)

    def replay(self, operation: str, key: str, *, scope: str | None) -> Outcome:
        """What is known of a key; it claims nothing."""
        parameters = checked_identity(operation, key, scope)
        transaction = self._begin(self.retry.start(), operation)
        try:
            return Outcome.of(transaction.rows(REPLAY, parameters)[0], self.codec)
        finally:
            transaction.rollback()

    def _again(self, budget: Budget, error: Exception, lost: bool, operation: str, key: str | None, scope: str) -> None:
        """Sleeps before another try, or raises what there is to raise."""
        if not is_transient(error, lost):
            raise_translated(error, operation, key, scope)
        pause = budget.after_failure()
        if pause is None:
            raise Unavailable(operation, key, scope, detail=sqlstate(error) or "no connection") from error
        if lost:
            try:
                self.driver.mend()
            except Exception:  # the next try tells
                pause = max(pause, self.retry.base)
        time.sleep(pause)

    def _begin(self, budget: Budget, operation: str) -> Transaction:
        while True:
            try:
                return self.driver.begin(budget.left())
            except Unreachable as error:
                self._again(budget, error, False, operation, None, "")

    def _claim(
        self,
        budget: Budget,
        operation: str,
        key: str,
        request: Any,
        scope: str | None,
        ttl: timedelta | None,
        wait: timedelta | None,
        connection: Any = None,
    ) -> Attempt:
        """The open transaction of a claim, or a replay without one."""
        parameters = claim_parameters(operation, key, scope, self.codec.encode(request), None)
        if connection is None:
            refuse_nested(self.pool)
        transaction, outcome, _ = self._ask(budget, parameters, wait, connection)
        return Attempt(transaction, operation, key, scope or "", ttl, outcome, self.codec)

    def _claim_lease(
        self, operation: str, key: str, request: Any, scope: str | None, ttl: timedelta | None, wait: timedelta | None, length: float
    ) -> tuple[LeaseAttempt, float]:
        """A claim that is committed, and when the server was asked for it."""
        parameters = claim_parameters(operation, key, scope, self.codec.encode(request), length)
        refuse_nested(self.pool)
        _, outcome, asked = self._ask(self.retry.start(), parameters, wait)
        return LeaseAttempt(self, operation, key, scope or "", ttl, outcome, self.codec), asked

    def _ask(
        self,
        budget: Budget,
        parameters: dict[str, Any],
        wait: timedelta | None,
        connection: Any = None,
    ) -> tuple[Transaction, Outcome, float]:
        """Claims, in a transaction that stays open only where it holds the claim. No connection is kept meanwhile."""
        operation, key, scope = parameters["operation"], parameters["key"], parameters["scope"]
        mode = "transaction" if parameters["lease"] is None else "lease"
        polls = Polls(self.wait if wait is None else wait)
        while True:
            transaction = self._begin(budget, operation) if connection is None else self.driver.join(connection)
            asked = time.monotonic()
            try:
                outcome = Outcome.of(transaction.rows(CLAIM, parameters)[0], self.codec)
                # What asking has noted, such as a lease that lapsed, is kept.
                if outcome.outcome != "claimed" or mode == "lease":
                    transaction.commit()
            except Exception as error:
                lost = transaction.lost
                transaction.rollback()
                if connection is not None:
                    raise_translated(error, operation, key, scope)
                self._again(budget, error, lost, operation, key, scope)
                continue
            except BaseException:
                transaction.rollback()
                raise
            pause = polls.next() if outcome.outcome == "in_progress" and connection is None else None
            if pause is None:
                telemetry.record(operation, outcome.outcome, mode, outcome.attempt)
                if outcome.outcome in ("claimed", "replay"):
                    return transaction, outcome, asked
                raise outcome.error(operation, key, scope)
            time.sleep(pause)

    def _in_transaction(
        self, it: LeaseAttempt, work: Callable[[Transaction], list[Row]], gives_back: Callable[[list[Row]], bool] = lambda rows: False
    ) -> list[Row]:
        """A short transaction of a lease. A lost COMMIT is repeated, and what this very attempt has finished is done. `gives_back` tells
        whether what the work came to frees the key, so that nothing of it is left to be seen."""
        budget = self.retry.start()
        in_doubt: list[Row] | None = None
        while True:
            transaction = self._begin(budget, it.operation)
            rows: list[Row] | None = None
            try:
                rows = work(transaction)
                transaction.commit()
                return rows
            except Exception as error:
                lost = transaction.lost
                transaction.rollback()
                if in_doubt is not None and sqlstate(error) in FINISHED_OR_GONE:
                    known = self.replay(it.operation, it.key, scope=it.scope)
                    if known.outcome == "replay" and known.fence == it.fence:
                        return [(self.codec.encode(known.response), None)]
                    if gives_back(in_doubt):
                        return in_doubt
                in_doubt = rows if lost and rows is not None else in_doubt
                self._again(budget, error, lost, it.operation, it.key, it.scope)
            except BaseException:
                transaction.rollback()
                raise


def raise_translated(error: BaseException, operation: str, key: str | None, scope: str) -> NoReturn:
    """Raises an error as an exception of this package where it is one of the extension's."""
    better = translated(error, operation, key, scope)
    if better is error:
        raise error
    raise better from error


def claim_parameters(operation: str, key: str, scope: str | None, request: str | None, lease: float | None) -> dict[str, Any]:
    """With a lease an attempt is known by its id: one that lost the answer to COMMIT asks again, and gets its own lease."""
    return {
        **checked_identity(operation, key, scope),
        "request": request,
        "lease": lease,
        "wait": 0.0,
        "attempt_id": None if lease is None else str(uuid4()),
    }


def request_of_arguments(function: Callable[..., Any]) -> Callable[..., Any]:
    """What a call asks for: its only argument, or all by their names. The first parameter, the connection, is none of the caller's."""
    signature = inspect.signature(function)
    signature = signature.replace(parameters=list(signature.parameters.values())[1:])

    def request(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            name = getattr(function, "__name__", "the function")
            raise TypeError(f"{name}() takes the transaction's connection first, and behind it what is passed: {error}") from None
        bound.apply_defaults()
        return next(iter(bound.arguments.values())) if len(bound.arguments) == 1 else dict(bound.arguments)

    return request
