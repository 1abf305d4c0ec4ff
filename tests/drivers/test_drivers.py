"""Every function of the extension, called from the drivers that people use, with the parameters that their programs have.

The calls are data, calls.json: transactions, each with its calls, in which

* `sql` is the statement, with `$1`, `$2` and so on, each once and in this order. It has no cast but those of docs/drivers.md;
* `with` are the parameters, {kind: value}: a program's text, document (`json`), number, list, date, bytes or null. `"@NAME"` is what an earlier call
  has saved, as the driver gave it;
* `gives` are the rows that must come back (agree.py), or `raises` is the SQLSTATE that must;
* `save` names columns of the first row.

A driver has a small program (python/, node/, rust/, java/, ruby/), which plays all of it in a database of its own and prints a line of JSON for each transaction.
"""

import json
import secrets
import subprocess

import pytest

import agree
import runners
from common import ROOT
from server import PRELOADED

# For pgjdbc, which knows no unix sockets.
SETTINGS = {**PRELOADED, "listen_addresses": "'127.0.0.1'"}
HERE = ROOT / "tests" / "drivers"
TRANSACTIONS = json.loads((HERE / "calls.json").read_text(encoding="utf-8"))
CALLS = [call for transaction in TRANSACTIONS for call in transaction["calls"]]
TIMEOUT = 120  # seconds, for one driver


@pytest.fixture(scope="module")
def password(server):
    """What it takes to come through TCP, which is open to every user of the machine."""
    password = secrets.token_hex(16)
    (server.data / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 password\n")
    server.must(f"ALTER ROLE postgres PASSWORD '{password}'; SELECT pg_reload_conf()")
    return password


@pytest.fixture(scope="module")
def template(server):
    """A database that each driver gets a copy of."""
    server.must("CREATE ROLE drivers_cashier; CREATE ROLE drivers_relay; CREATE DATABASE drivers")
    server.must((HERE / "setup.sql").read_text(), "drivers")
    return "drivers"


@pytest.mark.reports
@pytest.mark.parametrize("name", runners.DRIVERS)
def test_driver(report, server, template, password, name):
    command, env = runners.DRIVERS[name]()
    database = f"{template}_{name}"
    server.must(f"CREATE DATABASE {database} TEMPLATE {template}")
    done = subprocess.run([*map(str, command), str(HERE / "calls.json")], env={**server.env(database), **env, "PGPASSWORD": password},
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=TIMEOUT)
    found = agree.faults(TRANSACTIONS, [json.loads(line) for line in done.stdout.splitlines()])
    for function in sorted({call["function"] for call in CALLS}):
        report(f"{name}::{function}", function not in found, said="\n".join([*found.get(function, []), done.stderr]))
    assert done.returncode == 0, done.stderr


def test_every_function_is_called_with_each_of_its_arguments(server, template):
    wanted, called = agree.surface(server, template), {}
    for call in CALLS:
        called.setdefault(call["function"], set()).update(agree.arguments(call, wanted.get(call["function"], ())))
    assert called.keys() == wanted.keys(), f"called without being there, or the other way round: {called.keys() ^ wanted.keys()}"
    missing = [f"{name}({argument})" for name, arguments in wanted.items() for argument in arguments if argument not in called[name]]
    assert not missing, f"no call in calls.json passes {', '.join(missing)}"


def test_parameters_are_in_order():
    """Some drivers have no numbers for them."""
    assert [call["sql"] for call in CALLS if agree.numbers(call) != list(range(1, len(call["with"]) + 1))] == []


def test_casts_are_documented():
    documented = agree.casts((ROOT / "docs" / "drivers.md").read_text(encoding="utf-8"))
    assert [call["sql"] for call in CALLS if not agree.casts(call["sql"]) <= documented] == []


from afterwards import test_server_logs_hold_nothing_harmful, test_tables_and_indexes_are_intact  # noqa: E402, F401 (the last)
