"""The suites of other programs, cargo's and Postgres': each runs one, and hands on what became of every test."""

import os
import re
import shutil
import subprocess
import threading
import time

import pytest

from common import EXTENSION, ROOT, Failure, say, target_dir

SUITE_TIMEOUT = int(os.environ.get("SUITE_TIMEOUT") or 20 * 60)  # seconds, one whole suite
DIFF_LINES = 400  # of a regress failure, in the terminal


def indent(text):
    return "\n".join(f"        {line}" for line in text.rstrip().splitlines())


class Stream:
    """A program whose output is read line by line, and that is ended when it hangs. `with Stream(...) as lines:`"""

    def __init__(self, command, env=None, cwd=ROOT, timeout=None):
        self.command, self.env, self.cwd, self.timeout = [str(word) for word in command], env, str(cwd), timeout or SUITE_TIMEOUT
        self.code = self.late = None

    def __enter__(self):
        self.process = subprocess.Popen(self.command, env=self.env, cwd=self.cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, universal_newlines=True, errors="replace", start_new_session=True)
        self.timer = threading.Timer(self.timeout, self.end)
        self.timer.start()
        return self

    def __iter__(self):
        for line in self.process.stdout:
            yield line.rstrip("\n")
        self.code = self.process.wait()
        if self.late:
            raise Failure(f"ended after {self.timeout} s: {' '.join(self.command[:3])}")

    def end(self):
        self.late = True
        for signal in (15, 9):
            try:
                os.killpg(self.process.pid, signal)
            except ProcessLookupError:
                return
            time.sleep(1)

    def __exit__(self, *exception):
        self.timer.cancel()
        if self.process.poll() is None:
            self.end()
            self.process.wait()


def run_program(command, env, cwd=ROOT, timeout=None):
    """Shows what a program says, and fails if it fails."""
    last = ""
    with Stream(command, env, cwd, timeout) as lines:
        for line in lines:
            say(indent(line))
            last = line.strip() or last
    assert lines.code == 0, f"{command[0]} ended with {lines.code}: {last}"


TEST = re.compile(r"^test (.+?) \.\.\. (\w+)")


def run_cargo(arguments, env, report):
    """`cargo test` or `cargo pgrx test`: reports every test of every program it runs."""
    arguments = [str(word) for word in arguments]
    with Stream(["cargo", *arguments], env) as lines:
        began, failed = time.monotonic(), []
        for line in lines:
            test = TEST.match(line)
            if test and test.group(2) in ("ok", "FAILED"):
                report(test.group(1), test.group(2) == "ok", time.monotonic() - began, "see what its program says below")
                failed += [test.group(1)] if test.group(2) == "FAILED" else []
                began = time.monotonic()
            elif line.strip() and not test:
                say(f"    {line}")
                began = began if failed else time.monotonic()
    if lines.code != 0 and not failed:
        raise Failure(f"cargo {arguments[0]} ended with {lines.code}, and not for a test")


# "ok 1  - name   12 ms" since Postgres 16, "test name   ... ok   12 ms" in 15 (and without "test" within a group)
TAP = re.compile(r"^(?P<ok>not ok|ok)\s+\d+\s+[-+]\s+(?P<name>\S+)\s+\d+ ms")
OLD = re.compile(r"^(?:test)?\s+(?P<name>\S+)\s+\.\.\.\s+(?P<ok>ok|FAILED)\s.*?\d+ ms")


def scheduled(directory):
    return re.findall(r"^test: (\S+)$", (ROOT / "tests" / directory / "schedule").read_text(), re.M)


class Regress:
    """pg_regress or pg_isolation_regress against a running server, for tests that are asked for in the order given."""

    def __init__(self, server, major, directory, names):
        isolation = directory == "isolation"
        self.kind = "isolation" if isolation else "regress"
        self.out = target_dir() / "test-results" / f"{self.kind}-{major}"  # stays, for whoever writes an expected file
        shutil.rmtree(str(self.out), ignore_errors=True)
        self.out.mkdir(parents=True)
        program = server.prefix / "lib" / "pgxs" / "src" / "test" / self.kind / ("pg_isolation_regress" if isolation else "pg_regress")
        inputs = ROOT / "tests" / directory
        command = [program, f"--bindir={server.prefix / 'bin'}", f"--inputdir={inputs}", f"--outputdir={self.out}", f"--dbname={self.kind}",
                   *names, f"--host={server.base}", f"--port={server.port}", "--user=postgres"]
        if int(major) >= 16:
            command.append(f"--expecteddir={inputs}")
        if isolation:
            command.append(f"--load-extension={EXTENSION}")
        env = server.env(self.kind)
        env.pop("PGAPPNAME")  # the driver sets its own, and specs may look at it
        env["LD_LIBRARY_PATH"] = str(server.prefix / "lib")
        self.stream = Stream(command, env, self.out)

    def __enter__(self):
        self.stream.__enter__()
        self.lines = iter(self.stream)
        return self

    def __exit__(self, *exception):
        self.stream.__exit__(*exception)

    def check(self, name):
        """Waits for what became of a test."""
        said = []
        for line in self.lines:
            found = TAP.match(line) or OLD.match(line)
            if found and found["name"] == name:
                if found["ok"] != "ok":
                    pytest.fail(self.difference(name), pytrace=False)
                return
            said.append(line)
        raise Failure("\n".join([f"{self.kind} ended without {name}:", *said[-40:]]))

    def difference(self, name):
        """Of this test alone; all of them are in one file."""
        file = self.out / "regression.diffs"
        parts = re.split(r"(?m)^(?=diff )", file.read_text(errors="replace")) if file.exists() else []
        lines = "".join(part for part in parts if f"/{name}.out" in part.partition("\n")[0]).splitlines()
        more = [f"... the rest is in {file}"] if len(lines) > DIFF_LINES else []
        return "\n".join([*lines[:DIFF_LINES], *more]) or f"failed without a difference: {file}"
