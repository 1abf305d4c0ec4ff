"""A decorator for Django's views, on Django's own connection."""

from __future__ import annotations

import functools
import math
import time
from datetime import timedelta
from typing import Any, Callable

from asgiref.sync import iscoroutinefunction
from django.db import DatabaseError, InterfaceError, OperationalError, connections, transaction
from django.http import HttpResponse

from . import telemetry
from .attempt import scope_of
from .drivers import Driver, Row, Transaction
from .drivers.line import Line
from .errors import Failure, IdempotencyError, LeaseLost, Unreachable
from .heart import Held
from .http import METHODS, Request, Response, Store, answer_of_failed_transaction, completion, is_committed_without_key, key_of, outcome_of
from .outcome import HttpClaim, Outcome
from .retry import Polls, Retry
from .sql import ALIVE, EVICTED, HTTP_CLAIM, HTTP_COMPLETE, HTTP_COMPLETE_UNKEPT, RELEASE, REPLAY, Statement
from .sync import Attempt, Idempotent, LeaseAttempt

View = Callable[..., Any]
UNKEPT_BYTES = (1 << 20) + 1


def _rows(connection: Any, statement: Statement, parameters: dict[str, Any]) -> list[Row]:
    with connection.cursor() as cursor:
        cursor.execute(statement.pyformat, {name: parameters[name] for name in statement.names})
        return list(cursor.fetchall())


class DjangoTransaction:
    """An atomic block of the outermost kind."""

    def __init__(self, using: str) -> None:
        self.using, self.connection = using, connections[using]
        self._over = self._lost = False
        self._atomic = transaction.atomic(using, durable=True)
        try:
            self._atomic.__enter__()
        except (OperationalError, InterfaceError) as error:
            self.connection.close()
            raise Unreachable from error
        # Django connects anew as soon as it notices, so that its connection does not tell.
        self._raw = self.connection.connection

    def rows(self, statement: Statement, parameters: dict[str, Any]) -> list[Row]:
        return _rows(self.connection, statement, parameters)

    def commit(self) -> None:
        self._over = True
        try:
            self._atomic.__exit__(None, None, None)
        except DatabaseError:
            self._find_lost()
            raise

    def rollback(self) -> None:
        if self._over:
            return
        self._over = True
        self._find_lost()
        try:
            transaction.set_rollback(True, self.using)
            self._atomic.__exit__(None, None, None)
        except DatabaseError:
            self.connection.close()

    def retire(self) -> None:
        """Nothing: the connection is the thread's own."""

    def _find_lost(self) -> None:
        self._lost = bool(self._raw.closed)

    @property
    def lost(self) -> bool:
        if not self._over:
            self._find_lost()
        return self._lost


class DjangoPrivate:
    def __init__(self, using: str, timeout: float) -> None:
        self.connection = connections.create_connection(using)
        settings = self.connection.settings_dict
        options = {**settings.get("OPTIONS", {}), "connect_timeout": math.ceil(timeout)}
        options.pop("pool", None)  # which would give one of its own
        self.connection.settings_dict = {**settings, "OPTIONS": options}
        try:
            self.connection.ensure_connection()
        except (OperationalError, InterfaceError) as error:
            raise Unreachable from error
        self._line = Line(self.connection.connection)

    def rows(self, statement: Statement, parameters: dict[str, Any]) -> list[Row]:
        return _rows(self.connection, statement, parameters)

    def cut(self) -> None:
        self._line.cut()

    def close(self) -> None:
        self._line.close()
        self.connection.close()


class DjangoDriver:
    """Of a database of settings.DATABASES: `Idempotent(DjangoDriver())` is the client on it, for code that is no view."""

    def __init__(self, using: str = "default") -> None:
        self.using = using

    def begin(self, timeout: float | None = None) -> Transaction:
        found: Transaction = DjangoTransaction(self.using)
        return found

    def join(self, connection: Any) -> Transaction:
        raise TypeError("Django's connection is the thread's: use once() outside of atomic()")

    def private(self, timeout: float) -> DjangoPrivate:
        return DjangoPrivate(self.using, timeout)

    def mend(self) -> None:
        connections[self.using].close()


def idempotent(
    *, operation: str, scope: str | Callable[[Any], Any] | None, required: bool = False, using: str = "default", mode: str = "transaction",
    lease: timedelta = timedelta(seconds=30), wait: timedelta = timedelta(seconds=2), store: Store | None = None,
    methods: tuple[str, ...] = METHODS, release_on_error: bool = False, retry: Retry | None = None,
) -> Callable[[View], View]:  # fmt: skip
    """Answers a repeated request with the first one's answer. The view runs in a transaction of this decorator (mode `transaction`), which
    is committed before the answer is sent, or without one and under a lease (mode `lease`). `request.idempotency` is the attempt."""
    if mode not in ("transaction", "lease"):
        raise ValueError(f"mode must be 'transaction' or 'lease', not {mode!r}")
    driver: Driver = DjangoDriver(using)
    client = Idempotent(driver, wait=wait, retry=retry)
    seconds = lease.total_seconds() if mode == "lease" else None

    def decorate(view: View) -> View:
        if iscoroutinefunction(view):
            raise TypeError("a view with async cannot run in Django's transactions: make it a view without, which Django runs in a thread")

        @functools.wraps(view)
        def once(request: Any, *args: Any, **kwargs: Any) -> Any:
            header = key_of(request.headers.get("Idempotency-Key") or "")
            if request.method not in methods or (header is None and not required):
                return view(request, *args, **kwargs)
            if len(request.body) < int(request.META.get("CONTENT_LENGTH") or 0):
                # A client that left: to WSGI that is the end of the body.
                return _of(Response.problem(400, "The body of the request ended before it was whole."))
            asked = Request(operation, header, request.method, request.get_full_path(), request.META.get("CONTENT_TYPE") or None,
                            request.body, scope_of(scope, request))  # fmt: skip
            return _serve(client, asked, seconds, store, release_on_error, request, lambda: view(request, *args, **kwargs))

        view_without_transaction: View = transaction.non_atomic_requests(using=using)(once)
        return view_without_transaction

    return decorate


def _serve(client: Idempotent, asked: Request, lease: float | None, store: Store | None, release_on_error: bool, request: Any,
           call: Callable[[], Any]) -> Any:  # fmt: skip
    budget, polls = client.retry.start(), Polls(client.wait)
    while True:
        open_transaction: Transaction | None = None
        is_at_work = False
        try:
            open_transaction = client.driver.begin(budget.left())
            began = time.monotonic()
            claim = HttpClaim(*open_transaction.rows(HTTP_CLAIM, asked.parameters(lease))[0])
            outcome = outcome_of(claim)
            if claim.has_record:
                outcome = outcome_of(claim, open_transaction.rows(REPLAY, asked.record(claim))[0], client.codec)
            if not claim.run or lease is not None:
                open_transaction.commit()
            pause = polls.next() if claim.outcome == "in_progress" else None
            if pause is None:
                telemetry.record(asked.operation, claim.outcome or "", "transaction" if lease is None else "lease", outcome.attempt)
            elif not claim.run:
                _give_back(open_transaction.connection)
                time.sleep(pause)
                continue
            if not claim.run:
                return _of(Response.of(claim))
            if lease is None:
                return _work(client, asked, claim, store, request, call, open_transaction)
            is_at_work = True
            return _work_with_lease(client, asked, claim, outcome, store, release_on_error, request, call, lease, began)
        except Failure:
            raise
        except IdempotencyError as error:
            return _of(Response.of_error(error))
        except Exception as error:
            lost = open_transaction is not None and open_transaction.lost
            if open_transaction is not None:
                open_transaction.rollback()
            if is_at_work:
                raise
            try:
                client._again(budget, error, lost, asked.operation, None, asked.scope)
            except IdempotencyError as unavailable:
                return _of(Response.of_error(unavailable))
        finally:
            if open_transaction is not None:
                open_transaction.rollback()


def _work(client: Idempotent, asked: Request, claim: HttpClaim, store: Store | None, request: Any, call: Callable[[], Any],
          held: Transaction) -> Any:  # fmt: skip
    request.idempotency = Attempt(held, asked.operation, claim.key, asked.scope, None, outcome_of(claim), client.codec)
    answer = _rendered(call())
    response = _response(answer)
    if held.connection.needs_rollback and response.status >= 400:
        # A refusal that the view, or its framework, has marked to be undone: as of a transaction that failed, nothing of it can be stored.
        return answer
    try:
        if _stored(held, asked, claim, store, answer, response):
            held.commit()
    except DatabaseError as error:
        if answer_of_failed_transaction(error, response) is None:
            raise
    return answer


def _work_with_lease(client: Idempotent, asked: Request, claim: HttpClaim, outcome: Outcome, store: Store | None, release_on_error: bool,
                     request: Any, call: Callable[[], Any], lease: float, began: float) -> Any:  # fmt: skip
    if claim.key is None:  # the operation is only observed
        return _rendered(call())
    assert claim.fence is not None
    it = request.idempotency = LeaseAttempt(client, asked.operation, claim.key, asked.scope, None, outcome, client.codec)
    it.lost.held = held = Held(asked.operation, asked.scope, claim.key, claim.fence, lease, began, it.lost.set)
    client.heart.hold(held)
    try:
        try:
            answer = _rendered(call())
        except Exception:
            if release_on_error:
                it.release()
            raise
        if it.lost.is_set():
            raise LeaseLost(asked.operation, claim.key, asked.scope)
        response = _response(answer)
        client._in_transaction(it, lambda opened: [(_stored(opened, asked, claim, store, answer, response),)], lambda rows: not rows[0][0])
        return answer
    finally:
        client.heart.let_go(held)


def _stored(opened: Transaction, asked: Request, claim: HttpClaim, store: Store | None, answer: Any, response: Response) -> bool:
    if claim.key is None:  # the operation is only observed
        opened.rows(ALIVE, {})
        return is_committed_without_key(response)
    parameters = completion(asked, claim, response, UNKEPT_BYTES)
    if store is not None and not store(response.status, response.headers):
        if claim.fence is not None:
            opened.rows(RELEASE, parameters)
        return False
    kept = not answer.streaming
    stored = bool(opened.rows(HTTP_COMPLETE if kept else HTTP_COMPLETE_UNKEPT, parameters)[0][0])
    if stored and not kept and not opened.rows(EVICTED, parameters)[0][0]:
        raise RuntimeError("a streamed answer needs max_response_bytes of at most 1 MiB")
    return stored


def _rendered(answer: Any) -> Any:
    return answer.render() if hasattr(answer, "render") and not answer.is_rendered else answer


def _response(answer: Any) -> Response:
    return Response(answer.status_code, list(answer.items()), b"" if answer.streaming else bytes(answer.content))


def _of(response: Response) -> Any:
    answer = HttpResponse(response.body, status=response.status)
    del answer["Content-Type"]
    for name, value in response.headers:
        answer[name] = value
    return answer


def _give_back(connection: Any) -> None:
    """A connection of Django's pool; without one it is the thread's own."""
    if connection.settings_dict.get("OPTIONS", {}).get("pool"):
        connection.close()
