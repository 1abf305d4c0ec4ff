"""The client with asyncio: decorator, once and lease. In words and order it is sync.py."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Callable, TypeVar
from uuid import UUID

from . import telemetry
from .aio_lease import AsyncHeart, AsyncLost, Watch
from .attempt import Headers, State, checked_identity, scope_of
from .drivers import AsyncTransaction, Row, async_driver_of
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
)
from .heart import Held
from .nested import refuse_nested, within
from .outcome import Codec, Outcome
from .retry import Budget, Polls, Retry
from .sql import CHECKPOINT, CLAIM, COMPLETE, DERIVE_KEY, FAIL, RELEASE, REPLAY, STANDS, Statement
from .sync import TWO_SECONDS, OptionalText, claim_parameters, raise_translated, request_of_arguments

if TYPE_CHECKING:
    from typing_extensions import Concatenate, ParamSpec

    P = ParamSpec("P")
R = TypeVar("R")


class AsyncAttempt(State):
    """An attempt in a transaction that is open until its body ends."""

    def __init__(self, transaction: AsyncTransaction, *state: Any) -> None:
        super().__init__(*state)
        self.transaction = transaction

    @property
    def connection(self) -> Any:
        """The connection of the transaction that holds the claim: what it writes is committed with the answer."""
        return self.transaction.connection

    async def complete(
        self, response: Any = None, *, status: int | None = None, headers: Headers | None = None, body: bytes | None = None
    ) -> Any:
        """Stores the answer, and returns it as it is stored."""
        return self.store((await self.transaction.rows(COMPLETE, self.parameters(response, status, headers, body, self.ttl)))[0])

    async def fail(
        self,
        response: Any = None,
        *,
        status: int | None = None,
        headers: Headers | None = None,
        body: bytes | None = None,
        ttl: timedelta | None = None,
    ) -> Any:
        """Stores a final failure; what the body has written is committed with it."""
        return self.store((await self.transaction.rows(FAIL, self.parameters(response, status, headers, body, ttl)))[0])

    async def derive(self, label: str) -> UUID:
        """A key for a call to another system: the same in every attempt."""
        return UUID((await self.transaction.rows(DERIVE_KEY, self.identity(label=label)))[0][0])

    async def check_stands(self) -> None:
        """Raises if COMMIT would not store the answer: the body has caught an error of a statement, or ended the transaction itself."""
        try:
            rows = await self.transaction.rows(STANDS, {"xid": self.xid})
        except Exception as error:
            if sqlstate(error) == IN_FAILED_TRANSACTION:
                raise RolledBack(self.operation, self.key, self.scope) from error
            raise
        if not rows[0][0]:
            raise RolledBack(self.operation, self.key, self.scope)


class AsyncLeaseAttempt(State):
    """An attempt that holds a lease, and no connection."""

    def __init__(self, idempotent: AsyncIdempotent, *state: Any) -> None:
        super().__init__(*state)
        self.idempotent = idempotent
        self.lost = AsyncLost()

    async def complete(
        self,
        response: Any = None,
        *,
        status: int | None = None,
        headers: Headers | None = None,
        body: bytes | None = None,
        record: Callable[[Any], Awaitable[object]] | None = None,
    ) -> Any:
        """Stores the answer, unless the lease is lost. `record(connection)` writes in the same transaction."""
        return await self._finish(COMPLETE, self.parameters(response, status, headers, body, self.ttl), record)

    async def fail(
        self,
        response: Any = None,
        *,
        status: int | None = None,
        headers: Headers | None = None,
        body: bytes | None = None,
        ttl: timedelta | None = None,
        record: Callable[[Any], Awaitable[object]] | None = None,
    ) -> Any:
        """Stores a final failure, unless the lease is lost."""
        return await self._finish(FAIL, self.parameters(response, status, headers, body, ttl), record)

    async def release(self) -> None:
        """Gives the key back. Only where it is certain that nothing was done."""
        parameters = self.identity(fence=self.fence)
        await self.idempotent._in_transaction(self, lambda transaction: transaction.rows(RELEASE, parameters), lambda rows: True)
        self.finished = True

    async def save_checkpoint(self, checkpoint: Any) -> None:
        """Leaves word for the attempt that takes over."""
        parameters = self.identity(fence=self.fence, checkpoint=self.codec.encode(checkpoint))
        await self.idempotent._in_transaction(self, lambda transaction: transaction.rows(CHECKPOINT, parameters))

    async def derive(self, label: str) -> UUID:
        """A key for a call to another system: the same in every attempt."""
        rows = await self.idempotent._in_transaction(self, lambda transaction: transaction.rows(DERIVE_KEY, self.identity(label=label)))
        return UUID(rows[0][0])

    async def _finish(self, statement: Statement, parameters: dict[str, Any], record: Callable[[Any], Awaitable[object]] | None) -> Any:
        if self.lost.is_set():
            raise LeaseLost(self.operation, self.key, self.scope)

        async def work(transaction: AsyncTransaction) -> list[Row]:
            if record is not None:
                await record(transaction.connection)
            return await transaction.rows(statement, parameters)

        return self.store((await self.idempotent._in_transaction(self, work))[0])


class AsyncIdempotent:
    """Operations that happen once. One for each pool of a process."""

    def __init__(self, pool: Any, *, wait: timedelta = TWO_SECONDS, retry: Retry | None = None, codec: Codec | None = None) -> None:
        self.pool, self.driver = pool, async_driver_of(pool)
        self.wait, self.retry, self.codec = wait, retry or Retry(), codec or Codec()
        self.heart = AsyncHeart(self.driver)

    @classmethod
    def from_engine(cls, engine: Any, **options: Any) -> AsyncIdempotent:
        """Of an SQLAlchemy engine."""
        return cls(engine, **options)

    def __call__(
        self,
        *,
        operation: str,
        key_func: Callable[..., str],
        scope: OptionalText,
        ttl: timedelta | None = None,
        request: Callable[..., Any] | None = None,
        wait: timedelta | None = None,
    ) -> Callable[[Callable[Concatenate[Any, P], Awaitable[R]]], Callable[P, Awaitable[R]]]:
        """Makes a function of (connection, arguments) happen once for each key. What it returns is stored and committed with its writes."""

        def decorate(function: Callable[Concatenate[Any, P], Awaitable[R]]) -> Callable[P, Awaitable[R]]:
            request_of = request or request_of_arguments(function)

            @functools.wraps(function)
            async def once(*args: P.args, **kwargs: P.kwargs) -> R:
                result: R = await self.run(
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

    async def run(
        self,
        operation: str,
        key: str,
        request: Any,
        work: Callable[[AsyncAttempt], Awaitable[Any]],
        *,
        scope: str | None,
        ttl: timedelta | None = None,
        wait: timedelta | None = None,
    ) -> Any:
        """Runs the work in the claim's transaction and stores what it returns; runs it again after a transient error."""
        budget = self.retry.start()
        while True:
            it = await self._claim(budget, operation, key, request, scope, ttl, wait)
            if it.replayed:
                return it.result()
            try:
                with within(self.pool):
                    answer = await work(it)
                if it.finished:
                    await it.check_stands()
                else:
                    await it.complete(answer)
                await it.transaction.commit()
                return it.answer
            except Failure as failure:
                await it.transaction.rollback()
                return await self._fail(failure, operation, key, request, scope, wait)
            except Exception as error:
                lost = it.transaction.lost
                await it.transaction.rollback()
                await self._again(budget, error, lost, operation, key, it.scope)
            except BaseException:
                await it.transaction.rollback()
                raise

    async def _fail(self, failure: Failure, operation: str, key: str, request: Any, scope: str | None, wait: timedelta | None) -> Any:
        """Stores a failure without the writes of its attempt, unless another attempt was faster."""
        async with self.once(operation, key, request, scope=scope, wait=wait) as it:
            if it.replayed:
                return it.result()
            answer = await it.fail(failure.response, status=failure.status)
        raise Failure(answer, failure.status) from failure

    @asynccontextmanager
    async def once(
        self,
        operation: str,
        key: str,
        request: Any = None,
        *,
        scope: str | None,
        ttl: timedelta | None = None,
        wait: timedelta | None = None,
        connection: Any = None,
    ) -> AsyncIterator[AsyncAttempt]:
        """Claims the key for the body. With a `connection` the claim joins its open transaction, and does not wait."""
        it = await self._claim(self.retry.start(), operation, key, request, scope, ttl, wait, connection)
        try:
            with nullcontext() if it.replayed or connection is not None else within(self.pool):
                yield it
            it.check_finished()
            if not it.replayed and connection is None:
                await it.check_stands()
                await it.transaction.commit()
        except BaseException as error:
            lost = it.transaction.lost
            await it.transaction.rollback()
            if lost and isinstance(error, Exception):
                raise Unavailable(operation, key, it.scope, detail="the connection broke") from error
            raise_translated(error, operation, key, it.scope)

    @asynccontextmanager
    async def lease(
        self,
        operation: str,
        key: str,
        request: Any = None,
        *,
        scope: str | None,
        seconds: float = 30.0,
        ttl: timedelta | None = None,
        wait: timedelta | None = None,
        cancel: bool = False,
    ) -> AsyncIterator[AsyncLeaseAttempt]:
        """Claims the key with a lease that is extended in the background. Left without an answer, the lease is left to lapse: the work may
        have been done. With `cancel` the body is cancelled when the lease is lost, and LeaseLost is raised."""
        it, asked = await self._claim_lease(operation, key, request, scope, ttl, wait, seconds)
        if it.replayed:
            yield it
            return
        assert it.fence is not None
        held = Held(operation, it.scope, key, it.fence, seconds, asked, it.lost.set)
        it.lost.held = held
        self.heart.hold(held)
        watch, is_lost = Watch(it.lost) if cancel else None, False
        try:
            try:
                yield it
                it.check_finished()
            finally:
                self.heart.let_go(held)
                is_lost = watch is not None and watch.end()
        except asyncio.CancelledError:
            if is_lost:
                raise LeaseLost(operation, key, it.scope) from None
            raise

    async def replay(self, operation: str, key: str, *, scope: str | None) -> Outcome:
        """What is known of a key; it claims nothing."""
        parameters = checked_identity(operation, key, scope)
        transaction = await self._begin(self.retry.start(), operation)
        try:
            return Outcome.of((await transaction.rows(REPLAY, parameters))[0], self.codec)
        finally:
            await transaction.rollback()

    async def _again(self, budget: Budget, error: Exception, lost: bool, operation: str, key: str | None, scope: str) -> None:
        """Sleeps before another try, or raises what there is to raise."""
        if not is_transient(error, lost):
            raise_translated(error, operation, key, scope)
        pause = budget.after_failure()
        if pause is None:
            raise Unavailable(operation, key, scope, detail=sqlstate(error) or "no connection") from error
        if lost:
            try:
                await self.driver.mend()
            except Exception:  # the next try tells
                pause = max(pause, self.retry.base)
        await asyncio.sleep(pause)

    async def _begin(self, budget: Budget, operation: str) -> AsyncTransaction:
        while True:
            try:
                return await self.driver.begin(budget.left())
            except Unreachable as error:
                await self._again(budget, error, False, operation, None, "")

    async def _claim(
        self,
        budget: Budget,
        operation: str,
        key: str,
        request: Any,
        scope: str | None,
        ttl: timedelta | None,
        wait: timedelta | None,
        connection: Any = None,
    ) -> AsyncAttempt:
        """The open transaction of a claim, or a replay without one."""
        parameters = claim_parameters(operation, key, scope, self.codec.encode(request), None)
        if connection is None:
            refuse_nested(self.pool)
        transaction, outcome, _ = await self._ask(budget, parameters, wait, connection)
        return AsyncAttempt(transaction, operation, key, scope or "", ttl, outcome, self.codec)

    async def _claim_lease(
        self, operation: str, key: str, request: Any, scope: str | None, ttl: timedelta | None, wait: timedelta | None, length: float
    ) -> tuple[AsyncLeaseAttempt, float]:
        """A claim that is committed, and when the server was asked for it."""
        parameters = claim_parameters(operation, key, scope, self.codec.encode(request), length)
        refuse_nested(self.pool)
        _, outcome, asked = await self._ask(self.retry.start(), parameters, wait)
        return AsyncLeaseAttempt(self, operation, key, scope or "", ttl, outcome, self.codec), asked

    async def _ask(
        self,
        budget: Budget,
        parameters: dict[str, Any],
        wait: timedelta | None,
        connection: Any = None,
    ) -> tuple[AsyncTransaction, Outcome, float]:
        """Claims, in a transaction that stays open only where it holds the claim. No connection is kept meanwhile."""
        operation, key, scope = parameters["operation"], parameters["key"], parameters["scope"]
        mode = "transaction" if parameters["lease"] is None else "lease"
        polls = Polls(self.wait if wait is None else wait)
        while True:
            transaction = await self._begin(budget, operation) if connection is None else self.driver.join(connection)
            asked = time.monotonic()
            try:
                outcome = Outcome.of((await transaction.rows(CLAIM, parameters))[0], self.codec)
                # What asking has noted, such as a lease that lapsed, is kept.
                if outcome.outcome != "claimed" or mode == "lease":
                    await transaction.commit()
            except Exception as error:
                lost = transaction.lost
                await transaction.rollback()
                if connection is not None:
                    raise_translated(error, operation, key, scope)
                await self._again(budget, error, lost, operation, key, scope)
                continue
            except BaseException:
                await transaction.rollback()
                raise
            pause = polls.next() if outcome.outcome == "in_progress" and connection is None else None
            if pause is None:
                telemetry.record(operation, outcome.outcome, mode, outcome.attempt)
                if outcome.outcome in ("claimed", "replay"):
                    return transaction, outcome, asked
                raise outcome.error(operation, key, scope)
            await asyncio.sleep(pause)

    async def _in_transaction(
        self,
        it: AsyncLeaseAttempt,
        work: Callable[[AsyncTransaction], Awaitable[list[Row]]],
        gives_back: Callable[[list[Row]], bool] = lambda rows: False,
    ) -> list[Row]:
        """A short transaction of a lease. A lost COMMIT is repeated, and what this very attempt has finished is done. `gives_back` tells
        whether what the work came to frees the key, so that nothing of it is left to be seen."""
        budget = self.retry.start()
        in_doubt: list[Row] | None = None
        while True:
            transaction = await self._begin(budget, it.operation)
            rows: list[Row] | None = None
            try:
                rows = await work(transaction)
                await transaction.commit()
                return rows
            except Exception as error:
                lost = transaction.lost
                await transaction.rollback()
                if in_doubt is not None and sqlstate(error) in FINISHED_OR_GONE:
                    known = await self.replay(it.operation, it.key, scope=it.scope)
                    if known.outcome == "replay" and known.fence == it.fence:
                        return [(self.codec.encode(known.response), None)]
                    if gives_back(in_doubt):
                        return in_doubt
                in_doubt = rows if lost and rows is not None else in_doubt
                await self._again(budget, error, lost, it.operation, it.key, it.scope)
            except BaseException:
                await transaction.rollback()
                raise
