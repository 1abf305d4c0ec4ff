"""What every suite on a server ends with; a file of tests imports it as its last."""

import logs


def test_tables_and_indexes_are_intact(server):
    flaws = server.flaws()
    assert not flaws, f"pg_amcheck says:\n{flaws}"


def test_server_logs_hold_nothing_harmful(request, began, major):
    # A server logs until it has stopped.
    for server in request.config.servers:
        server.stop()
    looked, found = logs.findings(began)
    assert looked, "there is no log"
    assert not found, "\n".join(found[:40])
