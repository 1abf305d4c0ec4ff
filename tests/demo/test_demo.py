"""The scripts of `make demo`, one after the other in one database: the story builds on itself."""

import pytest

import demos


SETTINGS = demos.SETTINGS
SCRIPTS = {script.stem: script for script in demos.scripts()}


@pytest.fixture(scope="module")
def story(server):
    """What the scripts are told; and whether one has failed, for those that come after it."""
    server.must("CREATE DATABASE demo")
    return {"told": demos.storm(), "broken": False}


@pytest.mark.parametrize("name", SCRIPTS)
def test_demo(server, story, name):
    if story["broken"]:
        pytest.fail("a script before it has failed", pytrace=False)
    story["broken"] = True
    ok, printed = demos.play(server, SCRIPTS[name], story["told"], shown=False)
    assert ok, printed
    story["broken"] = False


from afterwards import test_server_logs_hold_nothing_harmful, test_tables_and_indexes_are_intact  # noqa: E402, F401 (the last)
