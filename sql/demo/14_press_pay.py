"""Presses Pay five times at once, and once more, at the server that knows nothing but SQL; prints each answer as one line of JSON."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

STANDIN = Path(__file__).resolve().parents[2] / "tests" / "over_http" / "standin.py"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def press(port, amount):
    """A browser that is told to come back does so."""
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        headers = {"Idempotency-Key": '"order-42"', "Content-Type": "application/json"}
        try:
            connection.request("POST", "/pay", json.dumps({"amount": amount}), headers)
            answer = connection.getresponse()
            body = answer.read().decode()
        except ConnectionRefusedError:  # it has not started yet
            time.sleep(0.02)
            continue
        if answer.status != 409:
            return {"status": answer.status, "location": answer.getheader("Location"), "replayed": answer.getheader("Idempotent-Replayed"),
                    "body": body}
        time.sleep(0.05)


port = free_port()
server = subprocess.Popen([sys.executable, str(STANDIN), str(port)], env=os.environ)
try:
    with ThreadPoolExecutor(5) as presses:
        answers = [*presses.map(lambda _: press(port, 10), range(5)), press(port, 10.00), press(port, 99)]
    print("\n".join(json.dumps(answer) for answer in answers))
finally:
    server.kill()
    server.wait()
