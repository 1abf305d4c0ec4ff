/** Hono: what a run has set on the context. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { type Context, Hono } from "hono";
import { currentTransaction, honoIdempotent } from "pg-idempotent/http";
import { effects, freshDatabase, poolOf } from "./server.ts";

const admin = await freshDatabase("node_hono");
const OPTIONS = { operation: "api", scope: null } as const;

/** An application with one route; the first middleware sets two headers, one of them twice. */
function served(handler: (context: Context) => Promise<Response>, isRead = false): (key: string) => Promise<Response> {
  const app = new Hono();
  app.use(async (context, next) => {
    context.header("X-Outside", "1");
    context.header("Set-Cookie", "outside=1", { append: true });
    if (isRead) { context.res.headers.set("X-Read", "1"); }
    await next();
  });
  app.post("/pay", honoIdempotent(poolOf(), OPTIONS, handler));
  app.onError((error, context) => context.json({ error: error.message }, 500));
  return async (key) => await app.request("/pay", { method: "POST", headers: { "idempotency-key": key } });
}

async function conflict(): Promise<void> {
  await currentTransaction()?.query("DO $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = '40001'; END $$");
}

function cookiesOf(response: Response): string[] {
  return response.headers.getSetCookie();
}

for (const isRead of [false, true]) {
  test(`a run that is rolled back leaves no status and no header to the next${isRead ? ", also where a middleware has read the response" : ""}`, async () => {
    const key = randomUUID();
    let runs = 0;
    const ask = served(async (context) => {
      runs += 1;
      if (runs === 1) {
        context.status(402);
        context.header("X-Outside", "changed");
        context.header("X-First", "1");
        context.header("Set-Cookie", "first=1", { append: true });
        await conflict();
      }
      await currentTransaction()?.query("INSERT INTO effect (key, cents) VALUES ($1, 1)", [key]);
      return context.json({ paid: runs });
    }, isRead);
    const first = await ask(key);
    assert.deepEqual([first.status, first.headers.get("x-first"), first.headers.get("x-outside"), cookiesOf(first)], [200, null, "1", ["outside=1"]]);
    assert.deepEqual(await first.json(), { paid: 2 });
    const replay = await ask(key);
    assert.deepEqual([replay.status, replay.headers.get("x-first"), replay.headers.get("idempotent-replayed"), await replay.json()], [200, null, "true", { paid: 2 }]);
    assert.equal(replay.headers.get("x-read"), isRead ? "1" : null);
    assert.equal(await effects(admin, key), 1);
  });
}

test("a handler that sets the response of the context runs again, and is answered and replayed", async () => {
  const key = randomUUID();
  let runs = 0;
  const ask = served(async (context) => {
    runs += 1;
    context.res = new Response(`run ${runs}`, { status: 202, headers: { [`x-run-${runs}`]: "1" } });
    if (runs === 1) { await conflict(); }
    return context.res;
  });
  const [first, replay] = [await ask(key), await ask(key)];
  for (const response of [first, replay]) {
    assert.deepEqual([response.status, await response.text(), response.headers.get("x-run-1"), response.headers.get("x-run-2")], [202, "run 2", null, "1"]);
  }
  assert.equal(replay.headers.get("idempotent-replayed"), "true");
});

test("what is thrown leaves nothing to the application's own answer", async () => {
  const ask = served((context) => {
    context.header("X-Lost", "1");
    throw new Error("broken");
  });
  const response = await ask(randomUUID());
  assert.deepEqual([response.status, response.headers.get("x-lost"), response.headers.get("x-outside"), await response.json()], [500, null, "1", { error: "broken" }]);
});

test("a handler may return what it has not set on the context", async () => {
  const ask = served(() => Promise.resolve(new Response("own", { status: 201, headers: { "x-outside": "own", "set-cookie": "own=1" } })));
  const response = await ask(randomUUID());
  // As without an adapter.
  assert.deepEqual([response.status, response.headers.get("x-outside"), cookiesOf(response), await response.text()], [201, "own", ["own=1"], "own"]);
});
