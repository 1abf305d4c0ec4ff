/** Which node a key lives on, by the vectors that all clients and the extension are tested with. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type pg from "pg";
import { Misrouted, once, withLease } from "pg-idempotent";
import { fetchIdempotent } from "pg-idempotent/http";
import { Router, shard, slot } from "pg-idempotent/route";
import { freshDatabase, poolOf } from "./server.ts";

const admin = await freshDatabase("node_route");
const VECTORS = JSON.parse(readFileSync(join(import.meta.dirname, "..", "..", "conformance", "vectors", "identity.json"), "utf8")) as
  { scope: string; key: string; slot: number; shards: Record<string, number> }[];

test("slots and shards are those of the extension", () => {
  assert.ok(VECTORS.length >= 20);
  for (const vector of VECTORS) {
    assert.equal(slot(vector.key, vector.scope), vector.slot, vector.key);
    assert.ok(Object.keys(vector.shards).length >= 8);
    for (const [shards, wanted] of Object.entries(vector.shards)) {
      assert.equal(shard(vector.slot, Number(shards)), wanted, `${vector.key} of ${shards}`);
    }
  }
});

test("a router asks for the scope before the key", () => {
  const router = new Router([0, 1, 2, 3, 4]);
  assert.deepEqual([router.of("k", "t1"), router.of("another key", "t1")], [3, 3]);
  assert.deepEqual([router.of("k", ""), router.of("k", null)], [4, 4]);
  assert.throws(() => new Router([]), RangeError);
});

test("where slots have moved and the router does not know, the call goes to the node that has them", async () => {
  const nodes = await Promise.all(["node_route_a", "node_route_b"].map(async (database) => {
    await admin.query(`DROP DATABASE IF EXISTS ${database} WITH (FORCE)`);
    await admin.query(`CREATE DATABASE ${database}`);
    const pool = poolOf({ database });
    await pool.query("CREATE EXTENSION pg_idempotent");
    return pool;
  }));
  const [key, call] = [randomUUID(), { operation: "charge", scope: null }];
  const router = new Router(nodes);
  const first = router.of(key, null);
  await first.query("SELECT idempotent_own('{}')");
  let runs = 0;
  const paid = () => router.run(key, null, (pool) => once(pool, { ...call, key }, () => { runs += 1; return Promise.resolve("paid"); }));
  assert.deepEqual([(await paid()).replayed, (await paid()).replayed, runs], [false, true, 1]);
  const leased = randomUUID();
  assert.equal((await router.run(leased, null, (pool) => withLease(pool, { ...call, key: leased }, () => Promise.resolve("paid")))).answer, "paid");
  // Where no node answers for the key, or the call is about another one, the refusal is the caller's to see.
  await Promise.all(nodes.map((pool) => pool.query("SELECT idempotent_own('{}')")));
  await assert.rejects(paid(), (error) => error instanceof Misrouted && error.status === 421 && error.sqlstate === "ID010");
  let asked = 0;
  await assert.rejects(router.run(key, "tenant", (pool) => { asked += 1; return once(pool, { ...call, key }, () => Promise.resolve("paid")); }), Misrouted);
  assert.equal(asked, 1);
  const served = fetchIdempotent(nodes[0] as pg.Pool, { operation: "api", scope: null }, () => new Response("ran"));
  const refused = await served(new Request("http://localhost/", { method: "POST", headers: { "idempotency-key": key } }));
  assert.deepEqual([refused.status, refused.headers.get("content-type")], [421, "application/problem+json"]);
});

test("a call goes to its node", async () => {
  const router = new Router([poolOf(), poolOf()]);
  const call = { operation: "charge", key: randomUUID(), scope: null };
  const paid = () => once(router.of(call.key, call.scope), call, () => Promise.resolve("paid"));
  assert.deepEqual([(await paid()).replayed, (await paid()).replayed], [false, true]);
});
