"""Leases without asyncio: the heartbeat, the loss of a lease, and what is never given back."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from psycopg_pool import ConnectionPool
from servers import Door
from sqlalchemy import create_engine

from pg_idempotent import Idempotent, InProgress, LeaseLost, NotCompleted

INSERT = "INSERT INTO payment (tenant, order_id, amount) VALUES (%s, '1', 1)"


@pytest.fixture
def idem(pool: ConnectionPool[Any]) -> Idempotent:
    return Idempotent(pool)


def test_a_lease_holds_no_connection_and_its_answer_is_replayed(dsn, tenant, payments):
    with ConnectionPool(dsn, min_size=1, max_size=1, open=True) as pool:
        idem = Idempotent(pool)
        with idem.lease("card", "k", {"amount": 3}, scope=tenant) as it:
            with pool.connection(timeout=5) as connection:
                connection.execute("SELECT 1")
            key = it.derive("network")
            it.save_checkpoint({"step": 1})
            it.complete({"charge": 7}, status=201, record=lambda tx: tx.execute(INSERT, (tenant,)))
        with idem.lease("card", "k", {"amount": 3}, scope=tenant) as again:
            assert again.replayed
            assert again.answer == {"charge": 7}
    assert len(payments) == 1
    assert key.version == 8


def test_the_heartbeat_keeps_many_leases_with_one_connection(idem, tenant, monkeypatch, caplog):
    """The holders work for longer than their leases."""
    threads, private, opened = threading.active_count(), idem.driver.private, []

    def counted(timeout):
        connection = private(timeout)
        opened.append(connection)
        return connection

    monkeypatch.setattr(idem.driver, "private", counted)
    with idem.lease("card", "a", scope=tenant, seconds=3) as a, idem.lease("card", "b", scope=tenant, seconds=3) as b:
        first = {key: idem.replay("card", key, scope=tenant).expires_at for key in "ab"}
        while not all(idem.replay("card", key, scope=tenant).expires_at > first[key] + timedelta(seconds=3) for key in "ab"):
            assert not a.lost.wait(0.2)
            assert not b.lost.is_set()
        # On a slow machine a beat may have got no answer in time: its connection is closed, and one follows it.
        failures = sum("a heartbeat failed" in record.message for record in caplog.records)
        assert 1 <= len(opened) <= 1 + failures
        assert sum(thread.name == "pg_idempotent heartbeat" for thread in threading.enumerate()) >= 1
        assert threading.active_count() <= threads + 2  # the heartbeat, and the alarm of a beat that is under way
        assert a.complete(1) == 1
        assert b.complete(2) == 2


def test_a_lost_lease_is_signalled_and_not_completed(dsn, idem, admin, tenant):
    """The server has given the key to another attempt while the handler runs."""
    heart = idem.heart
    with pytest.raises(LeaseLost) as caught, idem.lease("card", "k", scope=tenant, seconds=0.6) as it:
        # This process is deaf for longer than the lease: the other attempt waits until that has lapsed.
        theirs = Idempotent(ConnectionPool(dsn, min_size=1, open=True))
        with heart.changed, theirs.lease("card", "k", scope=tenant, seconds=30) as other:
            assert other.number == 2
            other.complete("of the other")
        assert it.lost.wait(10)
        it.complete("mine")
    assert caught.value.http_status == 503
    assert idem.replay("card", "k", scope=tenant).response == "of the other"


def test_a_stale_fence_is_refused_by_the_server(idem, dsn, tenant):
    """Even where nothing told the holder."""
    with pytest.raises(LeaseLost), idem.lease("card", "k", scope=tenant, seconds=0.3) as it:
        idem.heart.let_go(it.lost.held)
        it.lost.held = None
        with idem.lease("card", "k", scope=tenant, seconds=30) as other:
            it.complete("mine")
    assert other.number == 2


def test_of_two_leases_of_one_key_the_older_is_lost(idem, admin, tenant):
    """The key was taken from its holder, and given to another thread of the process before a beat told."""
    with pytest.raises(LeaseLost), idem.lease("card", "k", scope=tenant, seconds=3) as old:
        admin.execute("SELECT idempotent_forget('card', 'k', scope => %s, fence => %s)", (tenant, old.fence))
        with idem.lease("card", "k", scope=tenant, seconds=3) as new:
            assert old.lost.wait(20)
            assert not new.lost.is_set()
            new.complete("of the new one")
        old.complete("of the old one")
    assert idem.replay("card", "k", scope=tenant).response == "of the new one"


def test_a_lease_is_lost_in_time_where_the_server_cannot_be_asked(idem, tenant, monkeypatch):
    def unreachable(timeout):
        raise ConnectionError

    monkeypatch.setattr(idem.driver, "private", unreachable)
    with pytest.raises(LeaseLost), idem.lease("card", "k", scope=tenant, seconds=0.5) as it:
        assert it.lost.wait(10)
        it.complete(1)


@pytest.mark.parametrize("kind", ["psycopg", "sqlalchemy"])
def test_a_beat_that_gets_no_answer_is_repeated_on_another_connection(dsn, tenant, kind):
    with Door(dsn) as door, ExitStack() as last:
        if kind == "psycopg":
            idem = Idempotent(last.enter_context(ConnectionPool(door.dsn, min_size=1, max_size=1, open=True)))
        else:
            engine = create_engine(f"postgresql+psycopg://postgres@127.0.0.1:{door.port}/{door.database}", pool_size=1)
            last.callback(engine.dispose)
            idem = Idempotent(engine)
        idem.replay("card", "k", scope=tenant)
        pooled = door.connections
        with idem.lease("card", "k", scope=tenant, seconds=3) as it:
            for _ in range(2):
                at = idem.replay("card", "k", scope=tenant).expires_at
                while idem.replay("card", "k", scope=tenant).expires_at <= at:
                    assert not it.lost.wait(0.02)
                door.swallow(from_number=pooled)
            assert door.connections == pooled + 2
            it.complete(1)


@pytest.mark.parametrize("error", [ZeroDivisionError, None])
def test_nothing_is_given_back_behind_the_work(idem, tenant, error):
    with pytest.raises(error or NotCompleted), idem.lease("card", "k", scope=tenant):
        if error:
            raise error
    with pytest.raises(InProgress), idem.lease("card", "k", scope=tenant, wait=idem.wait * 0):
        pass


def test_what_was_not_begun_is_given_back(idem, tenant):
    with idem.lease("card", "k", scope=tenant) as it:
        it.release()
    with idem.lease("card", "k", scope=tenant) as it:
        it.complete(1)
    assert it.number == 1


def test_the_attempt_that_takes_over_gets_the_checkpoint(idem, tenant):
    with pytest.raises(ZeroDivisionError), idem.lease("card", "k", scope=tenant, seconds=2) as it:
        it.save_checkpoint({"step": 2})
        raise ZeroDivisionError
    with idem.lease("card", "k", scope=tenant) as it:
        assert (it.number, it.checkpoint) == (2, {"step": 2})
        it.complete(1)


def lose(idem: Idempotent, admin: Any, monkeypatch: Any, statement: str) -> None:
    """Loses the connection behind the first COMMIT of a transaction with a statement."""
    begin = idem.driver.begin

    def losing(timeout=None):
        transaction = begin(timeout)
        rows = transaction.rows

        def watch(asked, parameters):
            if statement in asked.pyformat:
                transaction.commit = lost
            return rows(asked, parameters)

        def lost():
            transaction.connection.commit()
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", (transaction.connection.info.backend_pid,))
            monkeypatch.setattr(idem.driver, "begin", begin)
            transaction.connection.execute("SELECT 1")

        transaction.rows = watch
        return transaction

    monkeypatch.setattr(idem.driver, "begin", losing)


@pytest.mark.parametrize("statement", ["idempotent_claim", "idempotent_complete"])
def test_a_commit_without_an_answer_is_settled(idem, admin, tenant, monkeypatch, statement):
    lose(idem, admin, monkeypatch, statement)
    with idem.lease("card", "k", scope=tenant) as it:
        assert it.complete({"a": 1}) == {"a": 1}
    assert it.number == 1
    assert idem.replay("card", "k", scope=tenant).response == {"a": 1}


def test_a_release_whose_commit_was_lost_is_done(idem, admin, tenant, monkeypatch):
    lose(idem, admin, monkeypatch, "idempotent_release")
    with idem.lease("card", "k", scope=tenant) as it:
        it.release()
    with idem.lease("card", "k", scope=tenant, wait=idem.wait * 0) as it:
        it.complete(1)
    assert it.number == 1
