"""OpenTelemetry, where it is installed (the extra `otel`): attributes of the current span, and a counter. Without keys and scopes."""

from __future__ import annotations

from typing import Any

try:
    from opentelemetry import metrics, trace
except ImportError:
    trace = metrics = None  # type: ignore[assignment]

_counter: Any | None = None


def record(operation: str, outcome: str, mode: str, attempt: int | None) -> None:
    """Notes how a call was answered; `mode` is transaction or lease."""
    if trace is None:
        return
    global _counter
    if _counter is None:
        _counter = metrics.get_meter("pg_idempotent").create_counter("idempotency.calls", description="calls with an idempotency key")
    _counter.add(1, {"idempotency.operation": operation, "idempotency.outcome": outcome, "idempotency.mode": mode})
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attributes(
            {
                "idempotency.operation": operation,
                "idempotency.outcome": outcome,
                "idempotency.mode": mode,
                "idempotency.attempt": attempt or 1,
                "idempotency.replayed": outcome == "replay",
            }
        )
