"""Middleware for Starlette, FastAPI and any other ASGI application."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager, nullcontext
from contextvars import ContextVar
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Callable
from urllib.parse import quote

from . import telemetry
from .aio import AsyncAttempt, AsyncIdempotent, AsyncLeaseAttempt
from .attempt import known_scope
from .drivers import AsyncTransaction, Row
from .errors import IdempotencyError, InProgress, LeaseLost, Misrouted, Unavailable, translated
from .heart import Held
from .http import (
    HEADER,
    MEGABYTE,
    METHODS,
    Pairs,
    Request,
    Response,
    Store,
    answer_of_failed_transaction,
    completion,
    decode,
    is_committed_without_key,
    outcome_of,
)
from .http import key_header as key_header_of
from .nested import Frame, refuse_nested, within
from .outcome import HttpClaim, Outcome
from .retry import Budget, Polls, Retry
from .sql import ALIVE, EVICTED, HTTP_CLAIM, HTTP_COMPLETE, HTTP_COMPLETE_UNKEPT, RELEASE, REPLAY

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("pg_idempotent")
NAME = "pg_idempotent"  # in the scope of a request
_current: ContextVar[AsyncAttempt | AsyncLeaseAttempt | None] = ContextVar(NAME, default=None)
OfRequest = Callable[["HTTPConnection"], Any]


def attempt_of(request: HTTPConnection) -> AsyncAttempt | AsyncLeaseAttempt:
    """The attempt that a request is: its connection, its lease, keys for other systems. LookupError for a request without a key."""
    found: AsyncAttempt | AsyncLeaseAttempt | None = request.scope.get(NAME)
    if found is None:
        raise LookupError("this request has no Idempotency-Key, or passed no IdempotencyMiddleware")
    return found


def current() -> AsyncAttempt | AsyncLeaseAttempt | None:
    """The attempt of the request at work, for code that has no request."""
    return _current.get()


@asynccontextmanager
async def transaction(request: HTTPConnection, pool: Any) -> AsyncIterator[Any]:
    """The connection of the request's transaction. For a request without a key, one of the pool's that commits when the body ends."""
    found = request.scope.get(NAME)
    if isinstance(found, AsyncAttempt):
        yield found.connection
        return
    own = await (pool if isinstance(pool, AsyncIdempotent) else AsyncIdempotent(pool)).driver.begin()
    try:
        yield own.connection
        await own.rows(ALIVE, {})
        await own.commit()
    finally:
        await own.rollback()


class IdempotencyMiddleware:
    """Answers a repeated request with the first one's answer. In the mode `transaction` (default) the answer is committed with what the
    handler wrote on the transaction's connection, before its first byte is sent; in the mode `lease` no connection is kept during the work.

    `operation` is a name or a function of the request: the route's template, never its path. `scope` says whose key it is, from what
    authentication established: a function of the request, or None where there is one tenant. A request of which the function finds none
    is an error (500). `store(status, headers)` may refuse to keep
    an answer. `release_on_error` frees the key of a lease at once when the handler raises, for handlers whose exceptions mean that nothing
    was done; else the lease lapses.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        pool: Any,
        operation: str | OfRequest,
        scope: str | OfRequest | None,
        required: bool | OfRequest = False,
        mode: str = "transaction",
        lease: timedelta = timedelta(seconds=30),
        wait: timedelta = timedelta(seconds=2),
        store: Store | None = None,
        methods: tuple[str, ...] = METHODS,
        max_request_bytes: int = MEGABYTE,
        max_response_bytes: int = MEGABYTE,
        release_on_error: bool = False,
        retry: Retry | None = None,
    ) -> None:
        if mode not in ("transaction", "lease"):
            raise ValueError(f"mode must be 'transaction' or 'lease', not {mode!r}")
        self.app, self.operation, self.scope, self.required, self.mode = app, operation, scope, required, mode
        self.lease = lease.total_seconds() if mode == "lease" else None
        self.wait, self.store, self.methods, self.release_on_error = wait, store, methods, release_on_error
        self.max_request_bytes, self.max_response_bytes = max_request_bytes, max_response_bytes
        self.idempotent = pool if isinstance(pool, AsyncIdempotent) else AsyncIdempotent(pool, retry=retry)
        self._at_work: set[asyncio.Future[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in self.methods:
            return await self.app(scope, receive, send)
        header = key_header_of(value for name, value in scope["headers"] if name == HEADER.encode())
        if header is None and not await _of(self.required, scope):
            return await self.app(scope, receive, send)
        refuse_nested(self.idempotent.pool)
        try:
            body = await _read(receive, self.max_request_bytes)
        except _Disconnected:
            return None
        if body is None:
            detail = f"A request with a key has at most {self.max_request_bytes} bytes here."
            return await _send(send, Response.problem(413, detail))
        request = Request(
            str(await _of(self.operation, scope)), header, scope["method"], _target(scope), _content_type(scope), body,
            known_scope(self.scope, await _of(self.scope, scope)),
        )  # fmt: skip
        # A client that disconnects ends the server's task, and not the work.
        work = asyncio.ensure_future(self._serve(request, scope, receive, send))
        self._at_work.add(work)
        work.add_done_callback(self._done)
        await asyncio.shield(work)

    def _done(self, work: asyncio.Future[None]) -> None:
        self._at_work.discard(work)
        if not work.cancelled() and work.exception() is not None:
            log.debug("a request with a key ended with %s", type(work.exception()).__name__)

    async def _serve(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        budget, polls = self.idempotent.retry.start(), Polls(self.wait)
        while True:
            exchange = _Exchange(self, request, scope, receive, send)
            try:
                response = await exchange.run(budget)
                if response is None:
                    return
                if exchange.claim is not None and exchange.claim.outcome == "in_progress":
                    pause = polls.next()
                    if pause is not None:
                        await asyncio.sleep(pause)
                        continue
            except (InProgress, LeaseLost, Misrouted, Unavailable) as error:
                if exchange.is_sent:
                    raise
                response = Response.of_error(error)
            except Exception as error:
                if exchange.is_sent or (self.lease is not None and exchange.claim is not None):
                    raise
                try:
                    await self.idempotent._again(budget, error, exchange.lost, request.operation, None, request.scope)
                except IdempotencyError as unavailable:
                    log.warning("a request with a key could not be served: %s", unavailable)
                    response = Response.of_error(unavailable)
                else:
                    continue
            return await _send(send, response)


class _Exchange:
    """One try at a request."""

    def __init__(self, middleware: IdempotencyMiddleware, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        self.middleware, self.request = middleware, request
        self._scope, self._receive, self._send = scope, receive, send
        self.claim: HttpClaim | None = None
        self.outcome: Outcome | None = None
        self.attempt: AsyncAttempt | AsyncLeaseAttempt | None = None
        self.transaction: AsyncTransaction | None = None
        self.is_sent = self.lost = False
        self._head: Message | None = None
        self._body = bytearray()
        self._is_read = False
        self._frame: Frame | None = None
        self._is_turn_of_client = asyncio.Event()  # the answer is on its way, or there is none to come

    async def run(self, budget: Budget) -> Response | None:
        """What is to be sent; None if that was done already. A transaction that is left open by an error is rolled back."""
        try:
            claim = await self._ask(budget)
            if not claim.run:
                return Response.of(claim)
            if self.middleware.lease is None:
                return await self._work()
            return await self._work_with_lease()
        except Exception:
            self.lost = self.transaction is not None and self.transaction.lost
            raise
        finally:
            self._is_turn_of_client.set()
            if self.transaction is not None:
                await self.transaction.rollback()

    async def _ask(self, budget: Budget) -> HttpClaim:
        lease, request = self.middleware.lease, self.request
        self.transaction = await self.middleware.idempotent.driver.begin(budget.left())
        self.asked = time.monotonic()
        try:
            claim = HttpClaim(*(await self.transaction.rows(HTTP_CLAIM, request.parameters(lease)))[0])
            if claim.has_record:
                rows = await self.transaction.rows(REPLAY, request.record(claim))
                self.outcome = outcome_of(claim, rows[0], self.middleware.idempotent.codec)
            if not claim.run or lease is not None:
                await self.transaction.commit()
        except Exception as error:
            better = translated(error, request.operation, None, request.scope)
            if isinstance(better, Misrouted):
                raise better from error
            raise
        telemetry.record(request.operation, claim.outcome or "", self.middleware.mode, self.outcome.attempt if self.outcome else None)
        self.claim = claim
        return claim

    async def _call(self) -> None:
        """Has the application do the work."""
        assert self.claim is not None
        scope = {**self._scope, NAME: self.attempt, "extensions": {}}
        token = _current.set(self.attempt)
        try:
            with within(self.middleware.idempotent.pool) if isinstance(self.attempt, AsyncAttempt) else nullcontext() as self._frame:
                await self.middleware.app(scope, self._take, self._put)
        finally:
            _current.reset(token)
        if self._head is None:
            raise RuntimeError("the application returned without an answer")

    async def _work(self) -> Response | None:
        assert self.claim is not None
        assert self.transaction is not None
        state = (
            self.request.operation,
            self.claim.key or "",
            self.request.scope,
            None,
            outcome_of(self.claim),
            self.middleware.idempotent.codec,
        )
        self.attempt = AsyncAttempt(self.transaction, *state)
        await self._call()
        return None if self.is_sent else await self._settle()

    async def _work_with_lease(self) -> Response | None:
        claim, middleware, request = self.claim, self.middleware, self.request
        assert claim is not None
        if claim.key is None:  # the operation is only observed
            await self._call()
            return None if self.is_sent else self._response()
        assert claim.fence is not None
        assert self.outcome is not None
        assert middleware.lease is not None
        it = self.attempt = AsyncLeaseAttempt(middleware.idempotent, request.operation, claim.key, request.scope, None, self.outcome,
                                              middleware.idempotent.codec)  # fmt: skip
        it.lost.held = held = Held(request.operation, request.scope, claim.key, claim.fence, middleware.lease, self.asked, it.lost.set)
        middleware.idempotent.heart.hold(held)
        try:
            try:
                await self._call()
            except Exception:
                if middleware.release_on_error and not self.is_sent:
                    await it.release()
                raise
            return None if self.is_sent else await self._settle()
        finally:
            middleware.idempotent.heart.let_go(held)

    async def _take(self) -> Message:
        """`receive` of the application: the body once; then nothing, until the answer is on its way."""
        if not self._is_read:
            self._is_read = True
            return {"type": "http.request", "body": self.request.body, "more_body": False}
        await self._is_turn_of_client.wait()
        if self.is_sent:
            return await self._receive()
        return {"type": "http.disconnect"}

    async def _put(self, message: Message) -> None:
        """`send` of the application: kept, until it is too much or a stream."""
        if self.is_sent:
            await self._send(message)
        elif message["type"] == "http.response.start":
            self._head = message
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if len(self._body) > self.middleware.max_response_bytes or (self._body and _is_stream(self._response().headers)):
                await self._stream(message.get("more_body", False))

    async def _stream(self, more_body: bool) -> None:
        assert self._head is not None
        if self.transaction is not None:
            self.transaction.retire()
        response = await self._settle(is_kept=False)
        self.is_sent = True
        self._is_turn_of_client.set()
        if self._frame is not None:
            self._frame.close()
        await self._send({"type": "http.response.start", "status": response.status, "headers": self._head.get("headers", [])})
        await self._send({"type": "http.response.body", "body": response.body, "more_body": more_body})

    def _response(self) -> Response:
        assert self._head is not None
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self._head.get("headers", [])]
        return Response(self._head["status"], headers, bytes(self._body))

    async def _settle(self, is_kept: bool = True) -> Response:
        """Stores the answer and commits. An answer that is not stored takes with it what the transaction wrote."""
        assert self.claim is not None
        response, middleware = self._response(), self.middleware
        if self.attempt is None:  # nothing is known to the server, and nothing is open
            return response
        unkept = None if is_kept else middleware.max_response_bytes + 1
        parameters = completion(self.request, self.claim, response, unkept)
        wanted = middleware.store is None or middleware.store(response.status, response.headers)

        async def store(transaction: AsyncTransaction) -> list[Row]:
            if self.claim and self.claim.key is None:
                await transaction.rows(ALIVE, {})
                return [(is_committed_without_key(response),)]
            if not wanted:
                return [(False,)] if self.claim and self.claim.fence is None else await transaction.rows(RELEASE, parameters)
            rows = await transaction.rows(HTTP_COMPLETE if is_kept else HTTP_COMPLETE_UNKEPT, parameters)
            if rows[0][0] and not is_kept and not (await transaction.rows(EVICTED, parameters))[0][0]:
                raise RuntimeError("the operation's max_response_bytes is above that of the middleware, which would replay an empty answer")
            return rows

        if isinstance(self.attempt, AsyncLeaseAttempt):
            if self.attempt.lost.is_set():
                raise LeaseLost(self.request.operation, self.claim.key, self.request.scope)
            await middleware.idempotent._in_transaction(self.attempt, store, lambda rows: not (wanted and rows[0][0]))
            return response
        assert self.transaction is not None
        try:
            if (await store(self.transaction))[0][0]:
                await self.transaction.commit()
        except Exception as error:
            if answer_of_failed_transaction(error, response) is None:
                raise
        await self.transaction.rollback()
        return response


class _Disconnected(Exception):
    """The client left before its request was whole."""


async def _read(receive: Receive, limit: int) -> bytes | None:
    """The whole body; None if it is too large."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Disconnected
        body += message.get("body", b"")
        if len(body) > limit:
            return None
        if not message.get("more_body", False):
            return bytes(body)


async def _send(send: Send, response: Response) -> None:
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in response.headers]
    if response.status not in (204, 304) and not any(name == b"content-length" for name, _ in headers):
        headers.append((b"content-length", str(len(response.body)).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": False})


def _target(scope: MutableMapping[str, Any]) -> str:
    path = decode(scope.get("raw_path") or quote(scope["path"]).encode())
    query = decode(scope.get("query_string", b""))
    return f"{path.partition('?')[0]}?{query}" if query else path


def _content_type(scope: MutableMapping[str, Any]) -> str | None:
    return next((decode(value) for name, value in scope["headers"] if name == b"content-type"), None)


def _is_stream(headers: Pairs) -> bool:
    return any(name.lower() == "content-type" and value.partition(";")[0].strip().lower() == "text/event-stream" for name, value in headers)


async def _of(given: Any, scope: MutableMapping[str, Any]) -> Any:
    """A setting, or what a function makes of the request."""
    if not callable(given):
        return given
    from starlette.requests import Request as StarletteRequest

    found = given(StarletteRequest(scope))
    return await found if inspect.isawaitable(found) else found
