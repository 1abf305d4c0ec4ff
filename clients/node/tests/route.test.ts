/** Which node a key lives on, by the vectors that all clients and the extension are tested with. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { once } from "pg-idempotent";
import { Router, shard, slot } from "pg-idempotent/route";
import { freshDatabase, poolOf } from "./server.ts";

await freshDatabase("node_route");
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

test("a call goes to its node", async () => {
  const router = new Router([poolOf(), poolOf()]);
  const call = { operation: "charge", key: randomUUID(), scope: null };
  const paid = () => once(router.of(call.key, call.scope), call, () => Promise.resolve("paid"));
  assert.deepEqual([(await paid()).replayed, (await paid()).replayed], [false, true]);
});
