/** OpenTelemetry: attributes of the current span, and a counter. `once(pool, { ..., observe: telemetry() }, ...)`. */
import { type Attributes, metrics, trace } from "@opentelemetry/api";
import type { Observe } from "./core/call.js";

/** Neither key nor scope is reported: they are the customers'. */
export function telemetry(): Observe {
  const calls = metrics.getMeter("pg-idempotent").createCounter("idempotency.calls", { description: "calls by operation, mode and outcome" });
  return ({ operation, outcome, mode, attempt, replayed }) => {
    const counted: Attributes = { "idempotency.operation": operation, "idempotency.outcome": outcome, "idempotency.mode": mode };
    calls.add(1, counted);
    trace.getActiveSpan()?.setAttributes({
      ...counted,
      "idempotency.replayed": replayed,
      ...(attempt !== undefined && { "idempotency.attempt": attempt }),
    });
  };
}
