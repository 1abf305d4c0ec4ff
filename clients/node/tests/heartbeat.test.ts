/** The heartbeat's own connection: what it is given, and what it tells when it fails. The extension is where only a search_path finds it. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, test } from "node:test";
import type pg from "pg";
import { type Database, LeaseLost, sqlstate, withLease } from "pg-idempotent";
import { fromPostgres } from "pg-idempotent/postgres";
import postgres from "postgres";
import { freshDatabase, poolOf, until } from "./server.ts";

const admin = await freshDatabase("node_heartbeat");
await admin.query("DROP EXTENSION pg_idempotent; CREATE SCHEMA elsewhere; CREATE EXTENSION pg_idempotent SCHEMA elsewhere");

const PATH = "SET search_path = elsewhere, public";

function viaPostgres(): Database<unknown> {
  const sql = postgres({ max: 1, connection: { search_path: "elsewhere, public" } });
  after(() => sql.end({ timeout: 1 }));
  return fromPostgres(sql) as Database<unknown>;
}

function hooked(config: pg.PoolConfig = {}): pg.Pool {
  const pool = poolOf({ max: 1, ...config });
  pool.on("connect", (client) => { client.query(PATH).catch(() => undefined); });
  return pool;
}

/** A pool that awaits what its hook does; the type of the hook does not tell that it may. */
function awaiting(hook: (client: pg.ClientBase) => Promise<void>): pg.Pool {
  return poolOf({ max: 1, onConnect: (client) => hook(client) as unknown as undefined });
}

function awaited(): pg.Pool {
  return awaiting(async (client) => { await client.query("SELECT 1"); await client.query(PATH); });
}

async function holdBeyond(database: pg.Pool | Database<unknown>, lease: number): Promise<string> {
  const key = randomUUID();
  const { answer } = await withLease(database as Database<unknown>, { operation: "card", key, scope: null, lease }, async ({ signal }) => {
    const granted = performance.now();
    await until("the first lease would be over", () => signal.aborted || performance.now() > granted + 1.5 * lease);
    return "kept";
  });
  return answer;
}

for (const [name, open] of Object.entries({ "pg: pool.on(connect)": hooked, "pg: onConnect": awaited, "postgres: connection": viaPostgres })) {
  test(`${name} prepares the heartbeat's connection, too`, async () => {
    assert.equal(await holdBeyond(open(), 3_000), "kept");
  });
}

test("pg: a heartbeat's connection that hooks were told of is announced when it goes", async () => {
  const pool = hooked({ max: 2 });
  const open = new Set<unknown>();
  let made = 0;
  pool.on("connect", (client) => { made += 1; open.add(client); }).on("remove", (client) => { open.delete(client); });
  await holdBeyond(pool, 3_000);
  await until("only the pool's own are open", () => open.size === pool.totalCount);
  assert.ok(made > pool.totalCount);
});

test("pg: a hook's statement is not cut when the lease ends meanwhile", async () => {
  const pool = poolOf({ max: 1 });
  // As a statement that nobody catches: one that is cut would end the process.
  const results: unknown[] = [];
  pool.on("connect", (client) => {
    results.push(client.query(PATH).then(() => client.query("SELECT pg_sleep(0.2)")).then(() => "done", (error: unknown) => error));
  });
  await withLease(pool, { operation: "card", key: randomUUID(), scope: null, lease: 3_000 }, async () => {
    await until("the heartbeat has connected", () => results.length > 1);
    return "done";
  });
  assert.deepEqual(new Set(await Promise.all(results)), new Set(["done"]));
});

/** A lease that is lost because of the heartbeat, and what the handler has thrown then. */
async function lossOf(database: pg.Pool | Database<unknown>): Promise<{ lost: unknown; reason: unknown }> {
  let reason: unknown;
  const lost: unknown = await withLease(database as Database<unknown>, { operation: "card", key: randomUUID(), scope: null, lease: 1_800 }, async ({ signal }) => {
    await until("the signal is aborted", () => signal.aborted);
    reason = signal.reason;
    throw new Error("stopped");
  }).catch((error: unknown) => error);
  return { lost, reason };
}

for (const [name, open] of Object.entries({ pg: hooked, postgres: viaPostgres })) {
  test(`${name}: the error of a heartbeat is the cause of the loss`, async () => {
    const extend = "FUNCTION elsewhere.idempotent_extend_all(text, text[], bigint[], interval, text)";
    await admin.query(`ALTER ${extend} RENAME TO gone`);
    try {
      const { lost, reason } = await lossOf(open());
      assert.equal(lost, reason);
      assert.ok(lost instanceof LeaseLost && sqlstate(lost.cause) === "42883", String(lost));
    } finally {
      await admin.query(`ALTER ${extend.replace("idempotent_extend_all", "gone")} RENAME TO idempotent_extend_all`);
    }
  });
}

test("pg: the error of a hook is the cause of the loss", async () => {
  let connected = 0;
  const pool = awaiting(async (client) => {
    await client.query(PATH);
    connected += 1;
    if (connected > 1) { throw new Error("no role"); }
  });
  const { lost } = await lossOf(pool);
  assert.ok(lost instanceof LeaseLost && lost.cause instanceof Error && lost.cause.message === "no role", String(lost));
});
