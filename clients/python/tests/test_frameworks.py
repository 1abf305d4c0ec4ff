"""Django's views, AWS Powertools, OpenTelemetry, and the pytest plugin."""

from __future__ import annotations

import io
import json
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool
from servers import Door

from pg_idempotent import Idempotent, RolledBack

pytest_plugins = ["pytester"]
INSERT = "INSERT INTO payment (tenant) VALUES (%s) RETURNING id"


@pytest.fixture(scope="module")
def django(dsn: str) -> Any:
    import django
    from django.conf import settings

    parts = dict(part.split("=") for part in dsn.split())
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": parts["host"],
        "PORT": parts["port"],
        "USER": "postgres",
        "NAME": parts["dbname"],
    }
    settings.configure(DATABASES={"default": database}, ALLOWED_HOSTS=["*"], ATOMIC_REQUESTS=True, USE_TZ=True)
    django.setup()
    yield django
    from django.db import connections

    connections.close_all()


class Calls:
    """A view, and how to call it."""

    def __init__(self, tenant: str, **settings: Any) -> None:
        from django.db import connection
        from django.http import JsonResponse
        from django.test import RequestFactory

        from pg_idempotent.django import idempotent

        self.calls = 0
        self.during: Callable[[], None] = lambda: None
        self.status, self.error, self.requests = 201, None, RequestFactory()

        @idempotent(scope=lambda request: tenant, **{"operation": "django", **settings})
        def view(request: Any) -> Any:
            self.calls += 1
            with connection.cursor() as cursor:
                cursor.execute(INSERT, (tenant,))
                number = cursor.fetchone()[0]
            if self.error is not None and self.calls == 1:
                raise self.error
            self.during()
            return JsonResponse({"payment": number}, status=self.status)

        self.view = view

    def __call__(self, key: Any, amount: int = 1) -> Any:
        headers = {} if key is None else {"HTTP_IDEMPOTENCY_KEY": key}
        return self.view(self.requests.post("/pay?a=1", json.dumps({"amount": amount}), content_type="application/json", **headers))


def test_a_django_view_happens_once(django, tenant, payments):
    view = Calls(tenant, required=True)
    first, again = view("k"), view('"k"')
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert again["Idempotent-Replayed"] == "true"
    assert len(payments) == 1
    assert view("k", amount=2).status_code == 422
    assert [view(key).status_code for key in (None, " ", "a\0b")] == [400] * 3


@pytest.mark.parametrize("status", [503, 409])
def test_an_answer_that_is_not_stored_takes_its_writes_along(django, tenant, payments, status):
    view = Calls(tenant)
    view.status = status
    assert [view("k").status_code, view("k").status_code] == [status, status]
    assert (view.calls, len(payments)) == (2, 0)


def test_half_a_request_is_none(django, tenant, payments):
    view = Calls(tenant)
    whole = json.dumps({"amount": 1})
    headers = {"HTTP_IDEMPOTENCY_KEY": "k", "CONTENT_LENGTH": str(len(whole)), "wsgi.input": io.BytesIO(whole[:-1].encode())}
    assert view.view(view.requests.post("/pay?a=1", whole, content_type="application/json", **headers)).status_code == 400
    assert (view.calls, len(payments)) == (0, 0)
    assert view("k").status_code == 201


def test_a_django_view_runs_again_after_40001(django, tenant, payments):
    from django.db import OperationalError

    view = Calls(tenant)
    view.error = OperationalError()
    view.error.__cause__ = psycopg.errors.SerializationFailure()
    assert view("k").status_code == 201
    assert (view.calls, len(payments)) == (2, 1)


def test_an_exception_of_a_django_view_rolls_back(django, tenant, payments):
    view = Calls(tenant)
    view.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        view("k")
    assert len(payments) == 0
    assert view("k").status_code == 201


def test_a_django_view_under_a_lease(django, tenant, payments):
    view = Calls(tenant, mode="lease")
    assert view("k").content == view("k").content
    assert (view.calls, len(payments)) == (1, 1)


def extended(idem: Idempotent, tenant: str, operation: str, times: int) -> None:
    """Returns when a lease has been extended so often."""
    until = time.monotonic() + 20
    for _ in range(times):
        at = idem.replay(operation, "k", scope=tenant).expires_at
        while idem.replay(operation, "k", scope=tenant).expires_at == at:
            assert time.monotonic() < until
            time.sleep(0.02)


def test_work_on_django_that_lasts_longer_than_its_lease(django, pool, tenant, payments):
    from pg_idempotent.django import DjangoDriver

    view = Calls(tenant, mode="lease", lease=timedelta(seconds=3))
    view.during = lambda: extended(Idempotent(pool), tenant, "django", 4)
    assert [view("k").status_code for _ in range(2)] == [201, 201]
    assert (view.calls, len(payments)) == (1, 1)
    with Idempotent(DjangoDriver()).lease("code", "k", scope=tenant, seconds=3) as it:
        extended(Idempotent(pool), tenant, "code", 4)
        it.complete(1)


def test_a_beat_of_django_that_gets_no_answer_is_repeated_on_another_connection(django, pool, dsn, tenant):
    from django.db import connections

    from pg_idempotent.django import DjangoDriver

    with Door(dsn) as door:
        settings = connections.settings["default"]
        connections.settings["door"] = {**settings, "HOST": "127.0.0.1", "PORT": str(door.port)}
        try:
            with Idempotent(DjangoDriver("door")).lease("code", "k", scope=tenant, seconds=3) as it:
                pooled = door.connections
                for _ in range(2):
                    extended(Idempotent(pool), tenant, "code", 1)
                    assert not it.lost.is_set()
                    door.swallow(from_number=pooled)
                assert door.connections == pooled + 2
                it.complete(1)
        finally:
            connections["door"].close()
            del connections.settings["door"]


@pytest.mark.parametrize("statement", ["idempotent_http_claim", "idempotent_http_complete"])
def test_a_django_lease_whose_commit_loses_its_answer_is_served(django, admin, tenant, payments, monkeypatch, statement):
    from django.db import connection

    from pg_idempotent.django import DjangoTransaction

    rows = DjangoTransaction.rows

    def watch(transaction, asked, parameters):
        raw = connection.connection
        commit = raw.commit

        def lost():
            commit()
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", (raw.info.backend_pid,))
            raw.execute("SELECT 1")

        if statement in asked.pyformat:
            monkeypatch.setattr(DjangoTransaction, "rows", rows)
            raw.commit = lost
        return rows(transaction, asked, parameters)

    monkeypatch.setattr(DjangoTransaction, "rows", watch)
    view = Calls(tenant, mode="lease")
    first, again = view("k"), view("k")
    assert (first.status_code, first.content) == (again.status_code, again.content) == (201, first.content)
    assert (view.calls, len(payments)) == (1, 1)


@pytest.mark.parametrize("mode", ["transaction", "lease"])
@pytest.mark.parametrize("key", [None, '"broken', "x" * 300])
def test_where_an_operation_is_observed_every_request_of_django_goes_through(django, admin, tenant, payments, mode, key):
    admin.execute("SELECT name FROM idempotent_operation(%s, mode => 'observe')", (f"observed {tenant}",))
    view = Calls(tenant, operation=f"observed {tenant}", required=True, mode=mode)
    assert [view(key).status_code for _ in range(2)] == [201, 201]
    assert (view.calls, len(payments)) == (2, 2)
    view.status = 503
    assert view(key).status_code == 503
    assert len(payments) == (2 if mode == "transaction" else 3)


@pytest.mark.parametrize("status", [400, 201])
def test_a_django_view_that_marks_its_transaction_to_be_undone(django, tenant, payments, status):
    """As Django REST framework does for each of its errors, where requests are atomic."""
    from django.db import transaction

    view = Calls(tenant)
    view.status, view.during = status, lambda: transaction.set_rollback(True)
    if status == 400:
        assert [view("k").status_code for _ in range(2)] == [400, 400]
        assert view.calls == 2
    else:
        with pytest.raises(transaction.TransactionManagementError):
            view("k")
    assert len(payments) == 0


def test_a_django_view_with_async_is_refused(django):
    from django.views import View

    from pg_idempotent.django import idempotent

    async def view(request):
        raise AssertionError

    class Pay(View):
        async def post(self, request):
            raise AssertionError

    for each in (view, Pay.as_view()):
        with pytest.raises(TypeError, match="async"):
            idempotent(operation="django", scope=None)(each)


@pytest.mark.parametrize("undone", ["SELECT 1 / 0", "ROLLBACK"])
def test_a_body_on_django_that_undoes_its_answer_is_told(django, tenant, undone):
    from django.db import DatabaseError, connection

    from pg_idempotent.django import DjangoDriver

    idem = Idempotent(DjangoDriver())
    with pytest.raises(RolledBack), idem.once("django", "k", scope=tenant) as it:
        it.complete(1)
        with suppress(DatabaseError), connection.cursor() as cursor:
            cursor.execute(undone)
    assert idem.replay("django", "k", scope=tenant).outcome == "absent"


def test_a_django_view_without_a_scope_is_an_error(django):
    view = Calls(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="whose key"):
        view("k")
    assert view.calls == 0


def test_a_django_view_that_takes_over_is_told(django, tenant):
    from datetime import timedelta

    from django.http import JsonResponse

    from pg_idempotent.django import idempotent

    found = []

    @idempotent(operation="django", scope=tenant, mode="lease", lease=timedelta(seconds=2), wait=timedelta(seconds=20))
    def view(request: Any) -> Any:
        it = request.idempotency
        found.append((it.number, it.checkpoint))
        if it.number == 1:
            it.save_checkpoint({"sent": True})
            raise ZeroDivisionError
        return JsonResponse({})

    calls = Calls(tenant)
    calls.view = view
    with pytest.raises(ZeroDivisionError):
        calls("k")
    assert calls("k").status_code == 200
    assert found == [(1, None), (2, {"sent": True})]


def test_powertools_runs_a_function_once(pool: ConnectionPool[Any], tenant: str) -> None:
    from aws_lambda_powertools.utilities.idempotency import IdempotencyConfig, idempotent_function
    from aws_lambda_powertools.utilities.idempotency.exceptions import IdempotencyValidationError

    from pg_idempotent.powertools import PostgresPersistenceLayer

    calls = []
    layer = PostgresPersistenceLayer(Idempotent(pool), operation="lambda", scope=tenant)
    config = IdempotencyConfig(event_key_jmespath="id", payload_validation_jmespath="amount")

    @idempotent_function(data_keyword_argument="order", persistence_store=layer, config=config)
    def charge(order: dict[str, Any]) -> dict[str, Any]:
        calls.append(1)
        if order["id"] == "bad" and len(calls) == 1:
            raise ZeroDivisionError
        return {"charged": order["amount"]}

    with pytest.raises(ZeroDivisionError):
        charge(order={"id": "bad", "amount": 1})
    assert charge(order={"id": "bad", "amount": 1}) == charge(order={"id": "bad", "amount": 1}) == {"charged": 1}
    assert len(calls) == 2
    with pytest.raises(IdempotencyValidationError):
        charge(order={"id": "bad", "amount": 2})


def test_powertools_refuses_a_call_in_progress(pool, tenant):
    from aws_lambda_powertools.utilities.idempotency import idempotent_function
    from aws_lambda_powertools.utilities.idempotency.exceptions import IdempotencyAlreadyInProgressError

    from pg_idempotent.powertools import PostgresPersistenceLayer

    layer = PostgresPersistenceLayer(Idempotent(pool), operation="lambda", scope=tenant)

    @idempotent_function(data_keyword_argument="order", persistence_store=layer)
    def charge(order):
        if order == 1:
            with pytest.raises(IdempotencyAlreadyInProgressError):
                charge(order=1)
        return order

    assert charge(order=1) == 1


def test_powertools_keeps_what_it_found_in_its_local_cache(pool, tenant, monkeypatch):
    from aws_lambda_powertools.utilities.idempotency import IdempotencyConfig, idempotent_function

    from pg_idempotent.powertools import PostgresPersistenceLayer

    def charge_of(layer):
        @idempotent_function(data_keyword_argument="order", persistence_store=layer, config=IdempotencyConfig(use_local_cache=True))
        def charge(order):
            return order

        return charge

    first, second = (PostgresPersistenceLayer(Idempotent(pool), operation="lambda", scope=tenant) for _ in range(2))
    assert charge_of(first)(order=1) == charge_of(second)(order=1) == 1
    monkeypatch.setattr(second.idempotent.driver, "begin", None)  # it is asked no more
    assert charge_of(second)(order=1) == 1


def test_telemetry_has_neither_key_nor_scope(pool, tenant):
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    key = uuid.uuid4().hex
    with trace.use_span(provider.get_tracer("test").start_span("pay"), end_on_exit=True):
        Idempotent(pool).run("charge", key, None, lambda it: 1, scope=tenant)
    (span,) = exporter.get_finished_spans()
    assert dict(span.attributes) == {"idempotency.operation": "charge", "idempotency.outcome": "claimed", "idempotency.mode": "transaction",
                                     "idempotency.attempt": 1, "idempotency.replayed": False}  # fmt: skip
    assert key not in span.to_json()
    assert tenant not in span.to_json()


def test_the_plugin_gives_a_scope_and_duplicates(idempotency, idempotent_scope, pool):
    idem, calls = Idempotent(pool), []
    one, two = idempotency.duplicate(
        lambda: idem.run("charge", "k", None, lambda it: calls.append(threading.get_ident()) or 7, scope=idempotent_scope)
    )
    assert (one, two, len(calls)) == (7, 7, 1)


def test_the_plugin_finds_a_claim_without_an_answer(pytester, dsn, monkeypatch):
    # As the entry point would load it, installed or not.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(f"""
        import psycopg
        def test_it(idempotency):
            connection = idempotency.watch(psycopg.connect({dsn!r}))
            connection.execute("SELECT outcome FROM idempotent_claim('charge', 'k', scope => %s)", (idempotency.scope,))
    """)
    found = pytester.runpytest_subprocess("-p", "pg_idempotent.testing")
    found.assert_outcomes(passed=1, errors=1)
    found.stdout.fnmatch_lines(["*neither completed nor released*"])
