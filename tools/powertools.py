"""`powertools.py CHECKOUT`: the idempotency tests of AWS Powertools for Python over clients/python's PostgresPersistenceLayer, on a private server.

CHECKOUT is a directory with those tests, which are Amazon's and not part of this repository. They test the library that requirements/powertools.txt pins.
clients/python/tests/powertools_suite.py says how tests that stage DynamoDB's answers run over Postgres.
"""

import os
import sys
import tempfile
from pathlib import Path

from build import install
from common import EXTENSION, MAIN_MAJOR, ROOT, Failure, run, run_main
from in_venv import interpreter
from server import PRELOADED, Server

CLIENT = ROOT / "clients" / "python"
SUITES = ("_boto3", "_pydantic", "_redis")


def main():
    if len(sys.argv) != 2:
        raise Failure(__doc__.strip())
    tests = Path(sys.argv[1]).resolve() / "tests" / "functional" / "idempotency"
    if not tests.is_dir():
        raise Failure(f"no tests in {tests}: name a checkout of powertools-lambda-python")
    python = interpreter("powertools")
    with Server(install(MAIN_MAJOR), PRELOADED) as server, tempfile.TemporaryDirectory() as elsewhere:
        server.must(f"CREATE EXTENSION {EXTENSION}")
        path = os.pathsep.join(str(CLIENT / name) for name in ("src", "tests"))
        env = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
               "DSN": f"host={server.base} port={server.port} user=postgres dbname=postgres"}
        # Not from the checkout, whose library is not the one that is tested.
        run([python, "-m", "pytest", "-c", os.devnull, "--rootdir", tests, "-p", "powertools_suite", "-p", "pytest_mock", "-p", "no:cacheprovider",
             "-q", "-rsf", "--tb=short", *(tests / suite for suite in SUITES)], env=env, cwd=elsewhere)


if __name__ == "__main__":
    run_main(main)
