"""The shop of examples/checkout: its stories over HTTP, and in Chromium where there is one."""

import json
import os
import urllib.error
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from shop import BROWSERS, Shop, browse, browser
from common import say
from server import PRELOADED
from suites import TEST, Stream, indent

SETTINGS = PRELOADED
PATIENCE = 20  # seconds
LOST = 1       # seconds; how long a client waits for the answer that gets lost


@pytest.fixture(scope="module")
def shop(server):
    server.must("CREATE DATABASE checkout")
    server.must("CREATE EXTENSION pg_idempotent", "checkout")
    with Shop(server, "checkout") as base:
        yield base


def press(shop, till, order, mishap=None, timeout=PATIENCE):
    """The status and the answer; None if there was no answer."""
    headers = {"Content-Type": "application/json", **({"Idempotency-Key": order} if till == "with" else {}), **({"X-Mishap": mishap} if mishap else {})}
    request = urllib.request.Request(f"{shop}/{till}/pay", json.dumps({"order": order, "cents": 2500}).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.read(), answer.headers.get("Idempotent-Replayed")
    except urllib.error.HTTPError as error:
        return error.code, error.read(), None
    except OSError:
        return None


def charged(shop, order):
    """How often without and with, and what."""
    with urllib.request.urlopen(f"{shop}/tally?order={order}", timeout=PATIENCE) as answer:
        found = json.load(answer)
    return {till: (found[till]["charges"], found[till]["cents"]) for till in ("without", "with")}


def test_five_presses_at_once_charge_once(shop):
    order = str(uuid.uuid4())
    with ThreadPoolExecutor(10) as pool:
        pressed = {till: [pool.submit(press, shop, till, order) for _ in range(5)] for till in ("without", "with")}
        answers = {till: [one.result() for one in pressed[till]] for till in pressed}
    assert charged(shop, order) == {"without": (5, 12500), "with": (1, 2500)}
    assert {status for status, _, _ in answers["with"]} == {201}
    assert len({body for _, body, _ in answers["with"]}) == 1
    assert sorted(str(replayed) for _, _, replayed in answers["with"]) == ["None", *["true"] * 4]


@pytest.mark.parametrize("mishap, without", [("lost", 2), ("killed after commit", 2), ("killed before commit", 1)])
def test_a_press_that_is_repeated_charges_once(shop, mishap, without):
    order = str(uuid.uuid4())
    for till in ("without", "with"):
        assert press(shop, till, order, mishap, LOST if mishap == "lost" else PATIENCE) is None
        status, body, replayed = press(shop, till, order)
        assert (status, replayed) == (201, "true" if till == "with" and mishap != "killed before commit" else None)
    assert charged(shop, order) == {"without": (without, 2500 * without), "with": (1, 2500)}


def test_a_press_without_a_key_is_refused(shop):
    request = urllib.request.Request(f"{shop}/with/pay", b'{"order": "a", "cents": 1}', {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=PATIENCE)
    assert refused.value.code == 400


@pytest.mark.reports
def test_chromium(report, shop):
    if browser() is None:
        # What the page itself does is not looked at: not green, and not silent.
        say(f"\n    SKIPPED: no {' or '.join(BROWSERS)} is here, so NOBODY has pressed a button of the page. Install it with:\n        apt-get install chromium\n"
            "    or name one: CHROMIUM=/path/to/chromium. The other tests of this layer play all stories over HTTP.\n")
        assert os.environ.get("CHROMIUM") != "required", "no Chromium is here"
        report("over HTTP alone", True)
        return
    with Stream(browse(shop), timeout=120) as lines:
        said = []
        for line in lines:
            test = TEST.match(line)
            if test:
                said.append((test.group(1), test.group(2) == "ok", ""))
            elif said and line.strip():
                said[-1] = (*said[-1][:2], line)
            elif line.strip():
                say(indent(line))
    for name, passed, wrong in said:
        report(name, passed, said=wrong)
    assert lines.code == 0 or any(not passed for _, passed, _ in said), f"the browser's program ended with {lines.code}"


from afterwards import test_server_logs_hold_nothing_harmful, test_tables_and_indexes_are_intact  # noqa: E402, F401 (the last)
