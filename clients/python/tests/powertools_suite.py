"""A plugin of pytest that runs the functional tests of AWS Powertools over `PostgresPersistenceLayer`: see tools/powertools.py.

Those tests stage the answers of DynamoDB. Here what they stage is brought about in Postgres instead: a record that DynamoDB would have, a
database that fails. What they expect to be written is read back from Postgres.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
import uuid
from collections import deque
from datetime import timedelta
from typing import Any

import aws_lambda_powertools.utilities.idempotency as powertools
import aws_lambda_powertools.utilities.idempotency.persistence.redis as powertools_redis
import botocore.exceptions
import botocore.stub
import pytest
from psycopg_pool import ConnectionPool

from pg_idempotent import Idempotent
from pg_idempotent.powertools import PostgresPersistenceLayer
from pg_idempotent.sql import COMPLETE
from pg_idempotent.sync import claim_parameters

POOL = ConnectionPool(os.environ["DSN"], min_size=1, max_size=4, open=True)
PRESENT = "ConditionalCheckFailedException"


class Step:
    """An answer that DynamoDB would give, and what it would be asked."""

    def __init__(self, method: str, response: dict[str, Any], expected: dict[str, Any] | None, code: str = "", message: str = "") -> None:
        self.method, self.response, self.expected, self.code, self.message = method, response, expected or {}, code, message

    @property
    def item(self) -> dict[str, str]:
        return {name: next(iter(value.values())) for name, value in self.response.get("Item", {}).items()}


class Stubber:
    """In place of botocore's."""

    def __init__(self, layer: Staged) -> None:
        self.layer, self.steps = layer, deque[Step]()

    def add_response(self, method: str, response: dict[str, Any], expected: dict[str, Any] | None = None) -> None:
        self.steps.append(Step(method, response, expected))

    def add_client_error(
        self, method: str, service_error_code: str = "", service_message: str = "", modeled_fields: dict[str, Any] | None = None, **_: Any
    ) -> None:
        self.steps.append(Step(method, modeled_fields or {}, None, service_error_code or "Unknown", service_message))

    def activate(self) -> None:
        self.layer.steps = self.steps

    def deactivate(self) -> None:
        self.layer.steps = None

    def assert_no_pending_responses(self) -> None:
        assert not self.steps


class Staged(PostgresPersistenceLayer):
    """Takes the settings of DynamoDB's layer, and has a scope of its own."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__(Idempotent(POOL), operation="powertools", scope=uuid.uuid4().hex)
        self.client = self
        self.steps: deque[Step] | None = None

    def boto3_supports_condition_check_failure(self, version: str) -> bool:
        return True

    def _next(self, method: str) -> Step | None:
        if self.client is not self:
            getattr(self.client, method)()  # a mock, whose calls are counted
        if self.steps is None:
            return None
        assert self.steps, f"an unexpected {method}"
        assert self.steps[0].method == method
        return self.steps.popleft()

    def _failing(self, step: Step, call: Any, record: Any) -> None:
        """A call, of which the database fails as it is staged."""
        begin = self.idempotent.driver.begin

        def fail(timeout: float | None = None) -> Any:
            name = "".join(word.capitalize() for word in step.method.split("_"))
            raise botocore.exceptions.ClientError({"Error": {"Code": step.code, "Message": step.message}}, name)

        self.idempotent.driver.begin = fail  # type: ignore[method-assign]
        try:
            call(record)
        finally:
            self.idempotent.driver.begin = begin  # type: ignore[method-assign]

    def _put_record(self, data_record: Any) -> None:
        step = self._next("put_item")
        if step is None or not step.code:
            return super()._put_record(data_record)
        if step.code != PRESENT:
            return self._failing(step, super()._put_record, data_record)
        item = step.item
        if self.steps and self.steps[0].method == "get_item":
            # Postgres says with its refusal what DynamoDB is asked for.
            told = self.steps.popleft()
            if told.code:
                pytest.skip("stages a second read that fails; there is none")
            item = told.item
        self._stage(data_record.idempotency_key, item)
        super()._put_record(data_record)
        return None

    def _stage(self, key: str, item: dict[str, str]) -> None:
        """Brings a record about, unless it is there."""
        if not item:
            pytest.skip("stages a record that is there for put_item, and not for get_item")
        lapses = int(item["in_progress_expiration"]) / 1000 if "in_progress_expiration" in item else int(item["expiration"])
        if lapses <= time.time():
            pytest.skip("stages a record that has ended for get_item, and not for put_item")
        if self.idempotent.replay(self.operation, key, scope=self.scope).outcome != "absent":
            return
        parameters = claim_parameters(self.operation, key, self.scope, None, lapses - time.time())
        _, outcome, _ = self.idempotent._ask(self.idempotent.retry.start(), parameters, timedelta(0))
        if item["status"] == "COMPLETED":
            kept = {"data": item["data"], "hash": item.get("validation", "")}
            with POOL.connection() as connection:
                connection.execute(
                    COMPLETE.pyformat,
                    {
                        "operation": self.operation, "key": key, "scope": self.scope, "fence": outcome.fence,
                        "response": self.idempotent.codec.encode(kept), "status": None, "headers": None, "body": None,
                        "retention": int(item["expiration"]) - time.time(),
                    },
                )  # fmt: skip

    def _get_record(self, idempotency_key: str) -> Any:
        self._next("get_item")
        return super()._get_record(idempotency_key)

    def _update_record(self, data_record: Any) -> None:
        step = self._next("update_item")
        if step is not None and step.code:
            return self._failing(step, super()._update_record, data_record)
        super()._update_record(data_record)
        if step is not None:
            kept = super()._get_record(data_record.idempotency_key)
            expected = {name: next(iter(value.values())) for name, value in step.expected["ExpressionAttributeValues"].items()}
            assert (kept.status, kept.response_data) == (expected[":status"], expected[":response_data"])
            assert kept.payload_hash == expected.get(":validation_key", "")
            assert data_record.idempotency_key in [value["S"] for value in step.expected["Key"].values()]
        return None

    def _delete_record(self, data_record: Any) -> None:
        step = self._next("delete_item")
        if step is not None and step.code:
            return self._failing(step, super()._delete_record, data_record)
        super()._delete_record(data_record)
        assert self.idempotent.replay(self.operation, data_record.idempotency_key, scope=self.scope).outcome == "absent"
        return None


# How to connect to Redis, how an item of it is written, two clients that race for one, a parameter of DynamoDB's layer: over those.
OF_OTHERS = ("test_redis_", "test_item_to_datarecord_conversion", "test_invalid_dynamodb_persistence_layer")
LAYERS = {
    "DynamoDBPersistenceLayer": powertools.DynamoDBPersistenceLayer,
    "RedisCachePersistenceLayer": powertools_redis.RedisCachePersistenceLayer,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.name == "test_idempotent_lambda_redis_delete":
            item.add_marker(pytest.mark.skip(reason="deletes a finished record, which only an administrator may: idempotent_forget"))


def pytest_runtest_setup(item: pytest.Function) -> None:
    for name, layer in LAYERS.items():
        if hasattr(item.module, name):
            setattr(item.module, name, layer if item.name.startswith(OF_OTHERS) else Staged)


powertools.DynamoDBPersistenceLayer = Staged  # type: ignore[misc, assignment]
botocore.stub.Stubber = Stubber  # type: ignore[misc, assignment]
sys.modules.setdefault("multiprocess", multiprocessing)  # imported by tests that are left out
