"""Clients that call keys through the proxy, again and again until each call is answered, whatever happens to the nodes meanwhile."""

import collections
import random
import threading
import time

import psycopg
import pytest

# What each node does for a key: an effect, which is counted afterwards.
HANDLER = """CREATE TABLE effect (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), key text NOT NULL, slot integer NOT NULL);
CREATE FUNCTION work(request jsonb) RETURNS jsonb LANGUAGE sql AS $$
  INSERT INTO effect (key, slot) VALUES (request->>'key', public.idempotent_slot(request->>'key')) RETURNING to_jsonb(effect.id)
$$;"""
CALL = "SELECT outcome, response FROM idempotent_run(%s, %s, jsonb_build_object('key', %s::text), 'work')"
ANSWERED = ("executed", "replay")
CALLS = 3  # a key
CLIENTS = 6
WINDOW = 300  # calls to choose the next one from
PAUSE = 0.02  # seconds between a refusal and the next attempt
DEADLINE = 120  # seconds, for all that is waited for


def connected(server):
    return psycopg.connect(host=str(server.base), port=server.port, user="postgres", dbname="postgres", autocommit=True)


def refusal(connection, statement, *values):
    """The error that a statement is refused with."""
    with pytest.raises(psycopg.Error) as raised:
        connection.execute(statement, values)
    return raised.value


class Storm:
    """`with Storm(proxy, "name") as storm:` goes on as long as what is within, and with so many keys at least. What happens within, happens to
    it. In the end every call is answered."""

    def __init__(self, proxy, name, operation="work", least=400):
        self.proxy, self.name, self.operation, self.least = proxy, name, operation, least
        self.random = random.Random(7)
        self.keys, self.calls = 0, []
        self.answers = collections.defaultdict(list)  # of a key
        self.waited = collections.defaultdict(float)  # the longest of a key's calls, in seconds
        self.errors = collections.Counter()  # by SQLSTATE; of those that were called again
        self.done, self.over, self.broken = 0, False, None
        self.changed = threading.Condition()

    def __enter__(self):
        self.deadline = time.monotonic() + DEADLINE
        self.threads = [threading.Thread(target=self.client) for _ in range(CLIENTS)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, kind, *exception):
        self.over = True
        if kind:
            self.deadline, self.least = 0, 0
        for thread in self.threads:
            thread.join()
        if not kind:
            assert self.broken is None, self.broken

    def goes_on(self, calls=100):
        """Waits until so many calls more are answered."""
        with self.changed:
            until = self.done + calls
            assert self.changed.wait_for(lambda: self.broken or self.done >= until, DEADLINE), "the clients stand still"
        assert self.broken is None, self.broken

    def is_refused(self, times=10):
        """Waits until so many calls more are refused: a node is away, and that is noticed."""
        with self.changed:
            until = sum(self.errors.values()) + times
            assert self.changed.wait_for(lambda: self.broken or sum(self.errors.values()) >= until, DEADLINE), "no call is refused"
        assert self.broken is None, self.broken

    def next(self):
        """A key to call: one of many that are not yet called often enough, so that the calls of one are far from each other."""
        with self.changed:
            while len(self.calls) < WINDOW and (not self.over or self.keys < self.least):
                self.calls += [f"{self.name}-{self.keys}"] * CALLS
                self.keys += 1
            if not self.calls or self.broken:
                return None
            place = self.random.randrange(len(self.calls))
            self.calls[place], self.calls[-1] = self.calls[-1], self.calls[place]
            return self.calls.pop()

    def client(self):
        with connected(self.proxy) as connection:
            for key in iter(self.next, None):
                began = time.monotonic()
                answer = self.until_answered(connection, key)
                with self.changed:
                    if answer is None:
                        self.broken = self.broken or f"{key} was not answered in time; refused were {dict(self.errors)}"
                    else:
                        self.done += 1
                        self.answers[key].append(answer)
                        self.waited[key] = max(self.waited[key], time.monotonic() - began)
                    self.changed.notify_all()

    def until_answered(self, connection, key):
        while time.monotonic() < self.deadline:
            try:
                outcome, response = connection.execute(CALL, (self.operation, key, key)).fetchone()
                if outcome in ANSWERED:
                    return response
                refused = outcome
            except psycopg.Error as error:
                refused = error.sqlstate
            with self.changed:
                self.errors[refused] += 1
                self.changed.notify_all()
            time.sleep(PAUSE)
        return None


def judged(storm, nodes):
    """One effect a key, on one node, that each call was told of. Returns how many there are on each node."""
    effects, counts = collections.defaultdict(list), []
    for node in nodes:
        with connected(node) as connection:
            found = connection.execute("SELECT key, to_jsonb(id) FROM effect WHERE key LIKE %s", (f"{storm.name}-%",)).fetchall()
        counts.append(len(found))
        for key, number in found:
            effects[key].append(number)
    more = {key: numbers for key, numbers in effects.items() if len(numbers) > 1}
    assert not more, f"{len(more)} keys have had more than one effect: {list(more.items())[:5]}"
    wrong = {key: answers for key, answers in storm.answers.items() if answers != effects[key] * CALLS}
    assert not wrong and len(effects) == storm.keys, f"of {storm.keys} keys {len(effects)} have had an effect; told something else: {list(wrong.items())[:5]}"
    return counts
