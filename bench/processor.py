"""Processor time of the backend that serves a client, by turns: one client for each call, each with a backend of its own.

That is what a call takes from everybody else on the server, and what the rest of the machine does hardly changes it. The backend
tells it itself (bench.clock), before a turn and after.
"""

from client_calls import CALLS, PAIRS, rows
from driver import turns
from measure import QUICK

ROUNDS = 9 if QUICK else 41
SIZE = 300 if QUICK else 1_000


def measure():
    taken = {call: [processor for processor, _ in samples] for call, samples in turns("charge", CALLS, ROUNDS, SIZE).items()}
    targets = {pair: processor for pair, (processor, _, _) in PAIRS.items()}
    return (f"Processor time of the backend, microseconds a transaction, unlogged records; medians of {ROUNDS} turns of {SIZE} calls:",
            rows(targets, taken, False))
