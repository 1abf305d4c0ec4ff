/** The package itself: what it stands on, and its helpers. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { metrics, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { context } from "@opentelemetry/api";
import { AggregationTemporality, InMemoryMetricExporter, MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-base";
import { InProgress, once, sqlstate } from "pg-idempotent";
import { telemetry } from "pg-idempotent/otel";
import { duplicates, freshScope, rolledBack } from "pg-idempotent/testing";
import { effects, freshDatabase, poolOf } from "./server.ts";

const admin = await freshDatabase("node_package");
const DIST = join(import.meta.dirname, "..", "dist");

function imports(file: string): string[] {
  return Array.from(readFileSync(file, "utf8").matchAll(/^import .*? from "([^"]+)"|\bimport\("([^"]+)"\)/gm), ([, name, lazy]) => name ?? lazy ?? "");
}

test("nothing but Node.js is needed, except where a module is about it", () => {
  const needed = readdirSync(DIST, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".js")).map((name) =>
    [name, imports(join(DIST, name)).filter((found) => !found.startsWith(".") && !found.startsWith("node:"))] as const);
  assert.ok(needed.length > 10);
  assert.deepEqual(Object.fromEntries(needed.filter(([, found]) => found.length > 0)), { "drivers/postgres.js": ["postgres"], "otel.js": ["@opentelemetry/api"] });
});

test("SQL of the extension is in one file, and every parameter has a cast", () => {
  const source = join(import.meta.dirname, "..", "src");
  const files = readdirSync(source, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
  assert.deepEqual(files.filter((name) => /idempotent_\w+\(operation|FROM idempotent_/.test(readFileSync(join(source, name), "utf8"))), ["core/sql.ts"]);
  const parameters = readFileSync(join(source, "core", "sql.ts"), "utf8").match(/\$\d+\S*/g) ?? [];
  assert.ok(parameters.length > 40);
  assert.deepEqual(parameters.filter((parameter) => !/^\$\d+::(text|bytea)/.test(parameter)), []);
});

test("a test may run in a transaction that is rolled back, with a scope of its own", async () => {
  const key = randomUUID();
  const pool = poolOf();
  const scope = await rolledBack(pool, async (tx, own) => {
    await tx.query("INSERT INTO effect (key) VALUES ($1)", [key]);
    return own;
  });
  assert.match(scope, /^test-/);
  assert.notEqual(freshScope(), freshScope());
  assert.equal(await effects(admin, key), 0);
  await assert.rejects(rolledBack(pool, (tx) => tx.query("SELECT outcome FROM idempotent_claim('charge', $1)", [key])), (error) => sqlstate(error) === "ID009");
});

test("duplicates are made at once", async () => {
  const pool = poolOf({ max: 3 });
  const key = randomUUID();
  const settled = await duplicates(3, () => once(pool, { operation: "charge", key, scope: null, wait: 20_000 }, () => Promise.resolve("paid")));
  const answers = settled.map((one) => (one.status === "fulfilled" ? one.value : undefined));
  assert.deepEqual(answers.map((one) => one?.answer), ["paid", "paid", "paid"]);
  assert.equal(answers.filter((one) => one?.replayed === false).length, 1);
  assert.ok(new InProgress() instanceof Error);
});

test("OpenTelemetry sees operation, outcome, mode, attempt and whether it was a replay; no key, no scope", async () => {
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  const spans = new InMemorySpanExporter();
  trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(spans)] }));
  const counts = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
  const reader = new PeriodicExportingMetricReader({ exporter: counts, exportIntervalMillis: 3_600_000 });
  metrics.setGlobalMeterProvider(new MeterProvider({ readers: [reader] }));
  const call = { operation: "charge", key: `key-${randomUUID()}`, scope: "scope-secret", observe: telemetry() };
  const pool = poolOf();
  for (let time = 0; time < 2; time += 1) {
    await trace.getTracer("test").startActiveSpan("call", async (span) => {
      await once(pool, call, () => Promise.resolve("paid"));
      span.end();
    });
  }
  await reader.forceFlush();
  const own = { "idempotency.operation": "charge", "idempotency.mode": "transaction", "idempotency.attempt": 1 };
  assert.deepEqual(spans.getFinishedSpans().map(({ attributes }) => attributes), [
    { ...own, "idempotency.outcome": "claimed", "idempotency.replayed": false }, { ...own, "idempotency.outcome": "replay", "idempotency.replayed": true },
  ]);
  const [counted] = counts.getMetrics().flatMap(({ scopeMetrics }) => scopeMetrics.flatMap((scope) => scope.metrics));
  assert.equal(counted?.descriptor.name, "idempotency.calls");
  assert.deepEqual(counted.dataPoints.map(({ value }) => value), [1, 1]);
  assert.ok(!JSON.stringify([counted.dataPoints, spans.getFinishedSpans().map(({ attributes }) => attributes)]).includes("secret"));
  await reader.shutdown();
});
