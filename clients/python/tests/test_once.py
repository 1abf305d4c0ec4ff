"""The client without asyncio on psycopg: decorator, once, and what goes wrong."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolClosed

from pg_idempotent import (
    AsyncIdempotent,
    Evicted,
    Failure,
    Idempotent,
    InProgress,
    InvalidKey,
    Mismatch,
    NotCompleted,
    NotInstalled,
    Retry,
    Unavailable,
    sqlstate,
)

INSERT = "INSERT INTO payment (tenant, order_id, amount) VALUES (%s, %s, %s) RETURNING id"


@pytest.fixture
def idem(pool: ConnectionPool[Any]) -> Idempotent:
    return Idempotent(pool)


def pay(connection: Any, tenant: str, order: str = "1", amount: int = 10) -> int:
    return int(connection.execute(INSERT, (tenant, order, amount)).fetchone()[0])


def test_a_function_that_finds_no_scope_is_an_error(idem):
    @idem(operation="charge", key_func=lambda order: order["id"], scope=lambda order: order.get("tenant"))
    def charge(tx: Any, order: dict[str, Any]) -> int:
        raise AssertionError

    with pytest.raises(TypeError, match="whose key"):
        charge({"id": "1"})


def test_a_decorated_function_happens_once(idem, tenant, payments):
    @idem(operation="charge", key_func=lambda order: order["id"], ttl=timedelta(days=3), scope=lambda order: order["tenant"])
    def charge(tx, order):
        """Charges."""
        return {"payment": pay(tx, order["tenant"], order["id"]), "tags": ("a", "b")}

    order = {"id": "order-1", "tenant": tenant}
    first = charge(order)
    assert first["tags"] == ["a", "b"]  # as a replay has it
    assert charge(dict(reversed(list(order.items())))) == first
    assert len(payments) == 1
    assert charge.__doc__ == "Charges."
    with pytest.raises(Mismatch) as caught:
        charge({**order, "amount": 3})
    assert caught.value.http_status == 422
    assert "order-1" not in str(caught.value)
    assert tenant not in str(caught.value)
    kept = idem.replay("charge", "order-1", scope=tenant).expires_at
    assert timedelta(days=2) < kept - __import__("datetime").datetime.now(kept.tzinfo) <= timedelta(days=3)


def test_the_request_of_several_arguments_is_all_of_them_by_name(idem, tenant):
    calls = []

    @idem(operation="charge", key_func=lambda order, amount, note=None: order, scope=tenant)
    def charge(tx, order, amount, note=None):
        calls.append(amount)
        return amount

    assert charge("order-1", 3) == charge("order-1", amount=3, note=None) == 3
    assert calls == [3]
    with pytest.raises(Mismatch):
        charge("order-1", 4)


def test_an_exception_rolls_back_and_frees_the_key(idem, tenant, payments):
    def fall(it):
        pay(it.connection, tenant)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        idem.run("charge", "k", None, fall, scope=tenant)
    assert len(payments) == 0
    assert idem.run("charge", "k", None, lambda it: pay(it.connection, tenant), scope=tenant)
    assert len(payments) == 1


def test_a_failure_is_stored_without_the_writes_and_raised_again(idem, tenant, payments):
    calls = []

    def decline(it):
        calls.append(1)
        pay(it.connection, tenant)
        raise Failure({"error": "declined"}, 402)

    for _ in range(2):
        with pytest.raises(Failure) as caught:
            idem.run("charge", "k", None, decline, scope=tenant)
        assert (caught.value.response, caught.value.status) == ({"error": "declined"}, 402)
    assert len(calls) == 1
    assert len(payments) == 0


def test_once_commits_the_answer_with_the_writes(idem, tenant, payments):
    for replayed in (False, True):
        with idem.once("charge", "k", {"amount": 3}, scope=tenant) as it:
            assert it.replayed is replayed
            if not it.replayed:
                it.complete({"payment": pay(it.connection, tenant)}, status=201, headers=[("Location", "/1")], body=b"\0\xff")
    assert it.status == 201
    assert it.outcome.headers == [["Location", "/1"]]
    assert it.outcome.body == b"\0\xff"
    assert len(payments) == 1


def test_leaving_once_without_an_answer_raises_here(idem, tenant, payments):
    with pytest.raises(NotCompleted), idem.once("charge", "k", scope=tenant) as it:
        pay(it.connection, tenant)
    assert len(payments) == 0
    assert idem.replay("charge", "k", scope=tenant).outcome == "absent"


def test_once_joins_the_transaction_of_the_caller(idem, pool, tenant, payments):
    with pool.connection() as connection:
        with idem.once("charge", "k", scope=tenant, connection=connection) as it:
            it.complete(pay(connection, tenant))
        assert len(payments) == 0
        connection.rollback()
    assert idem.replay("charge", "k", scope=tenant).outcome == "absent"


def test_a_scope_is_required_and_none_is_written(idem):
    with pytest.raises(TypeError):
        idem.run("charge", "k", None, lambda it: 1)
    key = uuid.uuid4().hex
    assert idem.run("charge", key, None, lambda it: 1, scope=None) == 1
    assert idem.replay("charge", key, scope="").outcome == "replay"


@pytest.mark.parametrize("key", ["", "a\nb", "x" * 256])
def test_a_bad_key_is_no_database_error(idem, tenant, key):
    with pytest.raises(InvalidKey) as caught:
        idem.run("charge", key, None, lambda it: 1, scope=tenant)
    assert caught.value.http_status == 400


@pytest.mark.parametrize("bad", ["a\0b", "\ud83d"])
@pytest.mark.parametrize("at", range(3))
def test_a_text_that_postgres_has_not_is_no_drivers_error(idem, pool, bad, at):
    operation, key, scope = (bad if number == at else "k" for number in range(3))
    later = AsyncIdempotent(pool)
    for call in (
        lambda: idem.run(operation, key, None, lambda it: 1, scope=scope),
        lambda: idem.lease(operation, key, scope=scope).__enter__(),
        lambda: idem.replay(operation, key, scope=scope),
        lambda: asyncio.run(later.run(operation, key, None, None, scope=scope)),
        lambda: asyncio.run(later.replay(operation, key, scope=scope)),
    ):
        with pytest.raises(InvalidKey):
            call()


def test_an_evicted_answer_is_no_answer_of_none(idem, tenant):
    assert len(idem.run("charge", "k", None, lambda it: "x" * 2_000_000, scope=tenant)) == 2_000_000
    with pytest.raises(Evicted):
        idem.run("charge", "k", None, lambda it: "x", scope=tenant)


def test_a_held_key_is_in_progress_after_the_wait(idem, tenant):
    with idem.once("charge", "k", scope=tenant) as it:
        with pytest.raises(InProgress) as caught, ThreadPoolExecutor(1) as threads:
            threads.submit(idem.run, "charge", "k", None, None, scope=tenant, wait=timedelta(milliseconds=100)).result()
        assert caught.value.retry_after > 0
        it.complete(1)


def test_sixty_duplicates_over_a_pool_of_two_do_not_stand_still(dsn, tenant, payments):
    """The holder needs the second connection of the pool while all the others wait for its key."""
    with ConnectionPool(dsn, min_size=2, max_size=2, open=True) as pool, ThreadPoolExecutor(60) as threads:
        idem = Idempotent(pool, wait=timedelta(seconds=30))
        others = threading.Barrier(2)

        def work(it):
            others.wait(30)
            with pool.connection(timeout=30) as second:
                second.execute("SELECT 1")
            return pay(it.connection, tenant)

        found = [threads.submit(idem.run, "charge", "k", None, work, scope=tenant) for _ in range(60)]
        others.wait(30)
        other = idem.run("charge", "another", None, lambda it: "quick", scope=tenant)
        assert other == "quick"
        assert len({one.result(60) for one in found}) == 1
    assert len(payments) == 1


def test_a_call_within_the_body_of_another_one_is_refused(idem, pool, tenant, payments):
    """It would wait for a second connection while its caller keeps the first."""

    @idem(operation="inner", key_func=lambda order: order, scope=tenant)
    def inner(tx, order):
        return pay(tx, tenant)

    @idem(operation="outer", key_func=lambda order: order, scope=tenant)
    def outer(tx, order):
        return inner(order)

    def leased():
        with Idempotent(pool).lease("inner", "k", scope=tenant):
            raise AssertionError

    with pytest.raises(RuntimeError, match="second connection"):
        outer("k")
    with pytest.raises(RuntimeError, match="second connection"), idem.once("outer", "k", scope=tenant):
        leased()
    assert len(payments) == 0
    with idem.once("outer", "k", scope=tenant) as it:
        with idem.once("inner", "k", scope=tenant, connection=it.connection) as joined:
            joined.complete(pay(joined.connection, tenant))
        with ThreadPoolExecutor(1) as threads:  # what others do, the body need not wait for
            threads.submit(contextvars.copy_context().run, inner, "other").result()
        it.complete(1)
    with idem.once("outer", "k", scope=tenant) as again:  # a replay keeps no connection
        assert again.replayed
        inner("third")
    with idem.lease("outer", "l", scope=tenant) as it:  # nor does a lease
        inner("fourth")
        it.complete(1)
    assert len(payments) == 4


def test_40001_runs_the_handler_again(dsn, tenant, payments):
    with ConnectionPool(dsn, min_size=2, open=True, kwargs={"options": "-c default_transaction_isolation=serializable"}) as pool:
        idem, tries = Idempotent(pool), []

        def work(it):
            tries.append(1)
            it.connection.execute("SELECT count(*) FROM payment WHERE tenant = %s", (tenant,)).fetchone()
            if len(tries) == 1:
                with pool.connection() as other:
                    other.execute("SELECT count(*) FROM payment WHERE tenant = %s", (tenant,)).fetchone()
                    other.execute(INSERT, (tenant, "other", 1))
            return pay(it.connection, tenant)

        assert idem.run("charge", "k", None, work, scope=tenant)
    assert len(tries) == 2
    assert len(payments) == 2


def test_transient_errors_end_as_unavailable(pool, tenant):
    tries = []

    def work(it):
        tries.append(1)
        raise psycopg.errors.DeadlockDetected

    with pytest.raises(Unavailable) as caught:
        Idempotent(pool, retry=Retry(tries=3, base=0.001)).run("charge", "k", None, work, scope=tenant)
    assert len(tries) == 3
    assert caught.value.http_status == 503
    assert sqlstate(caught.value.__cause__) == "40P01"


def test_a_connection_lost_in_the_handler_is_replaced(idem, admin, tenant, payments):
    tries = []

    def work(it):
        tries.append(1)
        pay(it.connection, tenant)
        if len(tries) == 1:
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", (it.connection.info.backend_pid,))
        return pay(it.connection, tenant)

    assert idem.run("charge", "k", None, work, scope=tenant)
    assert len(tries) == 2
    assert len(payments) == 2


@pytest.mark.parametrize("committed", [True, False])
def test_a_connection_lost_in_commit_is_settled_by_the_claim(idem, admin, tenant, payments, monkeypatch, committed):
    """Before or after the server has committed: nobody can tell from the error."""
    tries = []

    def commit(connection):
        if committed:
            real(connection)
        admin.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.info.backend_pid,))
        connection.execute("SELECT 1")

    real = psycopg.Connection.commit

    def work(it):
        tries.append(1)
        monkeypatch.setattr(psycopg.Connection, "commit", commit if len(tries) == 1 else real)
        return pay(it.connection, tenant)

    def settle(*args):
        monkeypatch.setattr(psycopg.Connection, "commit", real)

    monkeypatch.setattr(idem.driver, "mend", settle)
    answer = idem.run("charge", "k", None, work, scope=tenant)
    assert len(tries) == (1 if committed else 2)
    assert len(payments) == 1
    assert idem.replay("charge", "k", scope=tenant).response == answer


def test_a_foreign_error_is_not_repeated(idem, tenant):
    tries = []

    def work(it):
        tries.append(1)
        it.connection.execute("SELECT 1 / 0")

    with pytest.raises(psycopg.errors.DivisionByZero):
        idem.run("charge", "k", None, work, scope=tenant)
    assert len(tries) == 1


@pytest.mark.parametrize("kwargs", [{"row_factory": dict_row}, {"autocommit": True}, {"prepare_threshold": None}])
def test_settings_of_the_pool_do_not_matter(dsn, tenant, payments, kwargs):
    with ConnectionPool(dsn, min_size=1, open=True, kwargs=kwargs) as pool:
        idem = Idempotent(pool)
        with pytest.raises(ZeroDivisionError), idem.once("charge", "k", scope=tenant) as it:
            it.connection.execute(INSERT, (tenant, "1", 1))
            raise ZeroDivisionError
        assert len(payments) == 0
        for _ in range(2):
            assert idem.run("charge", "k", None, lambda it: it.connection.execute(INSERT, (tenant, "1", 1)) and 7, scope=tenant) == 7
    assert len(payments) == 1


def test_a_derived_key_is_the_same_in_every_attempt(idem, tenant):
    found = set()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), idem.once("charge", "k", scope=tenant) as it:
            found.add(it.derive("network"))
            raise ZeroDivisionError
    assert len(found) == 1


def test_without_a_server_it_is_unavailable_within_the_deadline(tenant):
    with ConnectionPool("host=/nonexistent", min_size=0, max_size=1, open=True) as pool:
        idem = Idempotent(pool, retry=Retry(deadline=timedelta(seconds=0.3)))
        with pytest.raises(Unavailable):
            idem.run("charge", "k", None, lambda it: 1, scope=tenant)


@pytest.mark.parametrize("key", [7, None, b"k", uuid.uuid4()])
def test_names_are_texts(pool, tenant, key):
    with pytest.raises(TypeError, match="key must be a str, not"):
        Idempotent(pool).run("charge", key, None, lambda it: 1, scope=tenant)
    with pytest.raises(TypeError, match="scope must be a str, not int"):
        Idempotent(pool).run("charge", "k", None, lambda it: 1, scope=7)  # type: ignore[arg-type]


def test_a_database_without_the_extension_is_told_of(dsn, admin):
    name = f"bare_{uuid.uuid4().hex[:8]}"
    admin.execute(f"CREATE DATABASE {name}")
    with (
        ConnectionPool(f"{dsn.rpartition('dbname=')[0]}dbname={name}", open=True) as pool,
        pytest.raises(NotInstalled, match="CREATE EXTENSION"),
    ):
        Idempotent(pool).run("charge", "k", None, lambda it: 1, scope=None)
    admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_function_that_is_missing_is_the_applications_own(pool, tenant):
    with pytest.raises(psycopg.errors.UndefinedFunction):
        Idempotent(pool).run("charge", "k", None, lambda it: it.connection.execute("SELECT no_such_function()"), scope=tenant)


def test_what_is_no_open_pool_is_told_at_once(dsn):
    with pytest.raises(TypeError, match="not a pool that pg_idempotent knows"):
        Idempotent(dsn)
    with pytest.raises(TypeError, match=r"AsyncIdempotent\(pool\)"):
        Idempotent(AsyncConnectionPool(dsn, open=False))
    with pytest.raises(PoolClosed):
        Idempotent(ConnectionPool(dsn, open=False)).run("charge", "k", None, lambda it: 1, scope=None)


def test_a_function_without_a_place_for_the_connection_is_told(pool, tenant):
    idem = Idempotent(pool)
    once = idem(operation="charge", key_func=lambda order: order, scope=tenant)
    with pytest.raises(TypeError, match=r"pay\(\) takes the transaction's connection first"):

        @once
        def pay(order):
            return 1

        pay("k")
    with pytest.raises(TypeError, match="AsyncIdempotent"):

        @once
        async def pay_later(tx, order):
            return 1
