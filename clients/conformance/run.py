"""Sends the requests of scenarios/*.json to an application, and compares what comes back. README.md tells of both."""

import argparse
import base64
import http.client
import json
import re
import sys
import threading
import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit

SCENARIOS = Path(__file__).resolve().parent / "scenarios"
PATIENCE = 20  # seconds, for what is retried
TIMEOUT = 40   # seconds, for one answer; the application's own are 30
SAME = ("Content-Type", "Location", "ETag")


class Wrong(Exception):
    """An answer is not what the scenario says."""


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def header(self, name):
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def __str__(self):
        return f"{self.status} {self.headers} {self.body[:200]!r}"


def body_of(described):
    """The bytes that a request or an answer is described with; None without any."""
    if "text" in described:
        return described["text"].encode()
    if "base64" in described:
        return base64.b64decode(described["base64"])
    if "repeat" in described:
        text, times = described["repeat"]
        return text.encode() * times
    return None


class Connection:
    """One request on a connection of its own, which can be hung up."""

    def __init__(self, base, request):
        address = urlsplit(base)
        self.connection = http.client.HTTPConnection(address.hostname, address.port, timeout=TIMEOUT)
        self.target, self.request = address.path.rstrip("/") + request["target"], request

    def headers(self):
        headers = dict(self.request.get("headers", {}))
        if self.request.get("key") is not None:
            headers["Idempotency-Key"] = self.request["key"]
        if self.request.get("content_type") is not None:
            headers["Content-Type"] = self.request["content_type"]
        return headers

    def ask(self):
        """The answer; None if the connection was lost before there was one."""
        try:
            self.connection.request(self.request.get("method", "POST"), self.target, body_of(self.request) or b"", self.headers())
            answer = self.connection.getresponse()
            return Answer(answer.status, answer.getheaders(), answer.read())
        except (OSError, http.client.HTTPException):
            return None
        finally:
            self.connection.close()

    def hang_up(self):
        if self.connection.sock is not None:
            self.connection.sock.shutdown(2)

    def break_off(self):
        """Sends half of the request's body, and no more."""
        body = body_of(self.request)
        self.connection.putrequest(self.request.get("method", "POST"), self.target)
        for name, value in {**self.headers(), "Content-Length": str(len(body))}.items():
            self.connection.putheader(name, value)
        self.connection.endheaders(body[:len(body) // 2])
        self.connection.close()


class Begun:
    """A request that is under way in a thread."""

    def __init__(self, connection):
        self.connection, self.answer = connection, None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        self.answer = self.connection.ask()

    def end(self):
        self.thread.join(TIMEOUT)
        if self.thread.is_alive():
            raise Wrong("no answer came")
        return self.answer


def check_header(name, wanted, found):
    if isinstance(wanted, dict):
        if found is None or not re.search(wanted["matches"], found):
            raise Wrong(f"{name} is {found!r} and does not match {wanted['matches']}")
    elif found != wanted:
        raise Wrong(f"{name} is {found!r}, not {wanted!r}")


def check_problem(anchor, answer):
    check_header("Content-Type", {"matches": r"^application/problem\+json\b"}, answer.header("Content-Type"))
    problem = json.loads(answer.body)
    if not problem.get("type", "").endswith(f"#{anchor}"):
        raise Wrong(f"the type is {problem.get('type')}, not that of {anchor}")
    if problem.get("status") != answer.status or not problem.get("title") or not problem.get("detail"):
        raise Wrong(f"no problem of RFC 9457: {problem}")


def check_same(first, answer):
    if (answer.status, answer.body) != (first.status, first.body):
        raise Wrong(f"{answer} is not the first answer, {first}")
    for name in SAME:
        check_header(name, first.header(name), answer.header(name))


class Run:
    """A scenario at work."""

    def __init__(self, base):
        self.base, self.begun, self.saved = base, {}, {}
        self.words = {"{key}": str(uuid.uuid4()), "{key2}": str(uuid.uuid4()), "{case}": str(uuid.uuid4())}

    def filled(self, described):
        """With the keys and the case of this run."""
        if isinstance(described, str):
            for word, value in self.words.items():
                described = described.replace(word, value)
            return described
        if isinstance(described, list):
            return [self.filled(item) for item in described]
        if isinstance(described, dict):
            return {name: self.filled(value) for name, value in described.items()}
        return described

    def connect(self, request):
        headers = {"X-Case": self.words["{case}"], **request.get("headers", {})}
        return Connection(self.base, {**request, "headers": headers})

    def plain(self, method, target, status):
        answer = Connection(self.base, {"method": method, "target": target}).ask()
        if answer is None or answer.status != status:
            raise Wrong(f"{method} {target}: {answer}")
        return answer

    def step(self, step):
        if "send" in step:
            self.expect(step["expect"], self.connect(step["send"]).ask(), step["send"])
        elif "begin" in step:
            self.begun[step["as"]] = Begun(self.connect(step["begin"])), step["begin"]
        elif "end" in step:
            begun, request = self.begun.pop(step["end"])
            self.expect(step["expect"], begun.end(), request)
        elif "hang_up" in step:
            self.begun.pop(step["hang_up"])[0].connection.hang_up()
        elif "break_off" in step:
            self.connect(step["break_off"]).break_off()
        elif "entered" in step:
            self.plain("GET", f"/gate?gate={step['entered']}", 204)
        elif "open" in step:
            self.plain("POST", f"/gate?gate={step['open']}", 204)
        else:
            self.effects(step["effects"])

    def effects(self, wanted):
        """A handler may have been entered before its COMMIT, which is waited for; one effect too many is one too many."""
        deadline, found = time.monotonic() + PATIENCE, -1
        while found < wanted and time.monotonic() < deadline:
            found = json.loads(self.plain("GET", f"/effects?case={self.words['{case}']}", 200).body)
        if found != wanted:
            raise Wrong(f"{found} effects are committed")

    def expect(self, wanted, answer, request):
        deadline = time.monotonic() + PATIENCE
        while "retry" in wanted and (answer is None or answer.status in wanted["retry"]) and time.monotonic() < deadline:
            time.sleep(0.02)
            answer = self.connect(request).ask()
        if (answer is None) != bool(wanted.get("lost")):
            raise Wrong("no answer came" if answer is None else f"an answer came: {answer}")
        if answer is None:
            return
        if wanted.get("status", answer.status) != answer.status:
            raise Wrong(f"the answer is {answer}")
        for name, value in wanted.get("headers", {}).items():
            check_header(name, value, answer.header(name))
        body = body_of(wanted)
        if body is not None and body != answer.body:
            raise Wrong(f"the body is {answer.body[:200]!r} ({len(answer.body)} bytes)")
        if "json" in wanted and json.loads(answer.body) != wanted["json"]:
            raise Wrong(f"the body is {answer.body[:200]!r}")
        if "problem" in wanted:
            check_problem(wanted["problem"], answer)
        if "same_as" in wanted:
            check_same(self.saved[wanted["same_as"]], answer)
        if "save" in wanted:
            self.saved[wanted["save"]] = answer

    def play(self, scenario):
        for number, step in enumerate(scenario["steps"], 1):
            try:
                self.step(self.filled(step))
            except Wrong as wrong:
                raise Wrong(f"step {number}, {json.dumps(step, ensure_ascii=False)}:\n    {wrong}") from None


def scenarios():
    """(name as FILE/NAME, scenario)"""
    for file in sorted(SCENARIOS.glob("*.json")):
        for scenario in json.loads(file.read_text(encoding="utf-8")):
            yield f"{file.stem}/{scenario['name']}", scenario


def is_offered(scenario, mode, without):
    return mode in scenario.get("modes", [mode]) and not set(scenario.get("needs", [])) & set(without)


def outcomes(base, mode="transaction", without=(), only=""):
    """(name, None if it passed, 'skipped', or what is wrong) of each scenario."""
    for name, scenario in scenarios():
        if not name.startswith(only):
            continue
        if not is_offered(scenario, mode, without):
            yield name, "skipped"
            continue
        try:
            for _ in range(scenario.get("times", 1)):
                Run(base).play(scenario)
            yield name, None
        except Wrong as wrong:
            yield name, str(wrong)


def main():
    arguments = argparse.ArgumentParser(description="HTTP conformance of an application that uses pg_idempotent")
    arguments.add_argument("base", help="the URL of the application, such as http://127.0.0.1:8000")
    arguments.add_argument("--mode", choices=["transaction", "lease"], default="transaction")
    arguments.add_argument("--without", default="", help="what the application does not offer, such as stream,restart")
    arguments.add_argument("--only", default="", help="the beginning of names, such as keys/")
    given = arguments.parse_args()
    counted = {"passed": 0, "failed": 0, "skipped": 0}
    for name, wrong in outcomes(given.base, given.mode, given.without.split(","), given.only):
        word = "passed" if wrong is None else "skipped" if wrong == "skipped" else "failed"
        counted[word] += 1
        print(f"{word:8} {name}" + (f"\n  {wrong}" if word == "failed" else ""), flush=True)
    print(", ".join(f"{count} {word}" for word, count in counted.items()))
    sys.exit(1 if counted["failed"] or not counted["passed"] else 0)


if __name__ == "__main__":
    main()
