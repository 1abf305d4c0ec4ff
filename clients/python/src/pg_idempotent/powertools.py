"""A persistence layer for AWS Powertools' idempotency: its decorator, and records in Postgres."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
)
from aws_lambda_powertools.utilities.idempotency.persistence.base import BasePersistenceLayer
from aws_lambda_powertools.utilities.idempotency.persistence.datarecord import STATUS_CONSTANTS, DataRecord

from .errors import InProgress
from .outcome import Outcome
from .sql import COMPLETE, RELEASE
from .sync import Idempotent, claim_parameters


class PostgresPersistenceLayer(BasePersistenceLayer):
    """Holds a lease while the function runs. Powertools gives the key back when the function raises."""

    def __init__(self, idempotent: Idempotent, *, operation: str, scope: str | None, lease: timedelta = timedelta(minutes=15)) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.idempotent, self.operation, self.scope, self.lease = idempotent, operation, scope or "", lease
        self._fences: dict[str, int | None] = {}

    def _get_record(self, idempotency_key: str) -> DataRecord:
        outcome = self.idempotent.replay(self.operation, idempotency_key, scope=self.scope)
        if outcome.outcome not in ("replay", "in_progress"):
            raise IdempotencyItemNotFoundError
        return self._record(idempotency_key, outcome)

    def _put_record(self, data_record: DataRecord) -> None:
        until = data_record.in_progress_expiry_timestamp
        seconds = self.lease.total_seconds() if until is None else max(until / 1000 - time.time(), 0.001)
        parameters = claim_parameters(self.operation, data_record.idempotency_key, self.scope, None, seconds)
        try:
            _, outcome, _ = self.idempotent._ask(self.idempotent.retry.start(), parameters, timedelta(0))
        except InProgress:
            outcome = self.idempotent.replay(self.operation, data_record.idempotency_key, scope=self.scope)
            if outcome.outcome == "absent":  # the holder gave up meanwhile
                return self._put_record(data_record)
        if outcome.outcome != "claimed":
            known = self._record(data_record.idempotency_key, outcome)
            if outcome.outcome == "replay":
                self._validate_payload(data_record, known)
            self._save_to_cache(known)
            raise IdempotencyItemAlreadyExistsError(old_data_record=known)
        self._fences[data_record.idempotency_key] = outcome.fence

    def _update_record(self, data_record: DataRecord) -> None:
        kept = {"data": data_record.response_data, "hash": data_record.payload_hash}
        retention = None if data_record.expiry_timestamp is None else max(data_record.expiry_timestamp - time.time(), 1.0)
        response = self.idempotent.codec.encode(kept)
        self._finish(COMPLETE, data_record.idempotency_key, response=response, status=None, headers=None, body=None, retention=retention)

    def _delete_record(self, data_record: DataRecord) -> None:
        self._finish(RELEASE, data_record.idempotency_key)

    def _finish(self, statement: Any, key: str, **more: Any) -> None:
        parameters = {"operation": self.operation, "key": key, "scope": self.scope, "fence": self._fences.pop(key, None), **more}
        transaction = self.idempotent._begin(self.idempotent.retry.start(), self.operation)
        try:
            transaction.rows(statement, parameters)
            transaction.commit()
        finally:
            transaction.rollback()

    @staticmethod
    def _record(key: str, outcome: Outcome) -> DataRecord:
        until = None if outcome.expires_at is None else outcome.expires_at.timestamp()
        seconds = None if until is None else int(until)
        if outcome.outcome == "replay":
            kept = outcome.response or {}
            data, digest = kept.get("data") or "", kept.get("hash") or ""
            return DataRecord(key, STATUS_CONSTANTS["COMPLETED"], expiry_timestamp=seconds, response_data=data, payload_hash=digest)
        milliseconds = None if until is None else int(until * 1000)
        return DataRecord(key, STATUS_CONSTANTS["INPROGRESS"], expiry_timestamp=seconds, in_progress_expiry_timestamp=milliseconds)
