/** What the adapters do beyond the scenarios of clients/conformance. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { once as event } from "node:events";
import http, { type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import { after, test } from "node:test";
import express, { type NextFunction, type Request as Asked, type Response as Reply } from "express";
import fastify from "fastify";
import type pg from "pg";
import { currentLease } from "pg-idempotent";
import { type HttpOptions, currentTransaction, expressIdempotent, fastifyIdempotent, fetchIdempotent } from "pg-idempotent/http";
import { Door, effects, freshDatabase, latch, poolOf, until } from "./server.ts";

const admin = await freshDatabase("node_http");
const OPTIONS = { operation: "api", scope: null } as const;

async function listen(listener: RequestListener): Promise<number> {
  const server = http.createServer(listener).listen(0, "127.0.0.1");
  await event(server, "listening");
  after(() => { server.closeAllConnections(); server.close(); });
  return (server.address() as AddressInfo).port;
}

async function post(port: number, path: string, key: string | null, body: string | Uint8Array = "{}", headers: Record<string, string> = {}): Promise<Response> {
  const own = { "content-type": "application/json", ...(key !== null && { "idempotency-key": key }), ...headers };
  return await fetch(`http://127.0.0.1:${port}${path}`, { method: "POST", body: new Uint8Array(Buffer.from(body)), headers: own });
}

async function pay(key: string): Promise<void> {
  await currentTransaction()?.query("INSERT INTO effect (key, cents) VALUES ($1, 1)", [key]);
}

/** An application of Express with one route. */
function served(handler: (request: Asked, response: Reply, next: NextFunction) => unknown, options: Partial<HttpOptions<Asked>> = {}, pool: pg.Pool = poolOf({ max: 4 })): Promise<number> {
  const app = express().disable("x-powered-by");
  app.post("/pay", expressIdempotent(pool, { ...OPTIONS, ...options }, handler));
  app.use((error: Error, _: Asked, response: Reply, next: NextFunction) => {
    if (response.headersSent) { next(error); } else { response.status(500).json({ error: error.message }); }
  });
  return listen(app);
}

test("express: no byte leaves before COMMIT", async () => {
  const key = randomUUID();
  const { opened, open } = latch();
  let written = false;
  const port = await served(async (_, response) => {
    await pay(key);
    response.status(201).write("first ");
    response.end("last");
    written = true;
    // Work behind the answer is part of the transaction, and of the answer.
    await opened;
    await pay(key);
  });
  let arrived = false;
  const answer = post(port, "/pay", key).then((response) => { arrived = true; return response; });
  await until("the handler has answered", () => written);
  const other = await served((_, response) => { response.end("other"); });
  await (await post(other, "/pay", randomUUID())).text();
  assert.equal(arrived, false);
  open();
  const response = await answer;
  assert.equal(await effects(admin, key), 2);
  assert.deepEqual([response.status, await response.text()], [201, "first last"]);
});

test("express: a COMMIT that fails runs the handler again, from a clean response", async () => {
  const key = randomUUID();
  const door = new Door();
  const pool = poolOf({ max: 4, host: "127.0.0.1", port: await door.open() });
  let runs = 0;
  const port = await served(async (_, response) => {
    runs += 1;
    door.onCommit = runs === 1 ? "before" : undefined;
    await pay(key);
    if (runs === 1) { response.set("X-First", "1").status(202); }
    response.end(`run ${runs}`);
  }, {}, pool);
  const response = await post(port, "/pay", key);
  assert.deepEqual([response.status, response.headers.get("x-first"), await response.text()], [200, null, "run 2"]);
  assert.equal(await effects(admin, key), 1);
});

test("express: a Router runs again with its url, and with a fresh copy of the body", async () => {
  const key = randomUUID();
  const inner = express.Router();
  let runs = 0;
  const bodies: unknown[] = [];
  inner.use("/deep", express.Router().post("/:id", async (request: Asked, response: Reply) => {
    runs += 1;
    bodies.push(structuredClone(request.body));
    (request.body as Record<string, unknown>)["amount"] = "spoiled";
    await pay(key);
    if (runs === 1) { await currentTransaction()?.query("DO $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = '40001'; END $$"); }
    response.json({ id: request.params["id"], url: request.url });
  }));
  const app = express();
  app.use("/api", express.json(), expressIdempotent(poolOf(), OPTIONS, inner));
  const response = await post(await listen(app), "/api/deep/7", key, '{"amount":1}');
  assert.deepEqual(await response.json(), { id: "7", url: "/7" });
  assert.deepEqual(bodies, [{ amount: 1 }, { amount: 1 }]);
  assert.equal(await effects(admin, key), 1);
});

test("a request that names no key runs where the operation is observed, and what it wrote is kept unless it failed", async () => {
  await admin.query("SELECT idempotent_operation('watched', mode => 'observe')");
  for (const [status, kept] of [[201, 1], [409, 1], [503, 0]] as const) {
    const key = randomUUID();
    const serve = fetchIdempotent(poolOf(), { ...OPTIONS, operation: "watched", required: true }, async () => { await pay(key); return new Response("ran", { status }); });
    const response = await serve(new Request("http://localhost/pay", { method: "POST", headers: { "idempotency-key": '"broken' } }));
    assert.deepEqual([response.status, await response.text(), await effects(admin, key)], [status, "ran", kept]);
  }
});

test("express: a parser within the handler still reads the body", async () => {
  const inner = express.Router().use(express.json()).post("/pay", (request: Asked, response: Reply) => { response.json(request.body); });
  const app = express();
  app.use(expressIdempotent(poolOf(), OPTIONS, inner));
  const port = await listen(app);
  for (const body of ['{"a":"ü"}', JSON.stringify({ long: "x".repeat(90_000) })]) {
    assert.equal(await (await post(port, "/pay", randomUUID(), body)).text(), body);
  }
});

test("express: a handler that passes leaves nothing behind, and the next one answers", async () => {
  const key = randomUUID();
  const app = express();
  app.use(expressIdempotent(poolOf(), OPTIONS, async (_, response: Reply, next) => {
    await pay(key);
    response.set("X-Passed", "1");
    next();
  }));
  app.use((_, response) => { response.end("next"); });
  const response = await post(await listen(app), "/pay", key);
  assert.deepEqual([await response.text(), response.headers.get("x-passed"), await effects(admin, key)], ["next", null, 0]);
});

test("express: what is thrown goes to the application's own handler of errors, and rolls back", async () => {
  const key = randomUUID();
  const port = await served(async (_, response) => {
    await pay(key);
    response.set("X-Lost", "1");
    throw new Error("broken");
  });
  const response = await post(port, "/pay", key);
  assert.deepEqual([response.status, await response.json(), response.headers.get("x-lost")], [500, { error: "broken" }, null]);
  assert.equal(await effects(admin, key), 0);
});

test("express: what the handler wrote is rolled back with an answer that is not stored", async () => {
  const key = randomUUID();
  let status = 503;
  const port = await served(async (_, response) => {
    await pay(key);
    response.status(status).end();
  });
  for (status of [503, 429, 409]) {
    assert.equal((await post(port, "/pay", key)).status, status);
    assert.equal(await effects(admin, key), 0);
  }
  status = 200;
  assert.equal((await post(port, "/pay", key)).headers.get("idempotent-replayed"), null);
  assert.equal(await effects(admin, key), 1);
});

test("express: a predicate keeps an answer from being stored", async () => {
  const key = randomUUID();
  const port = await served(async (_, response) => {
    await pay(key);
    response.status(404).end();
  }, { store: ({ status }) => status !== 404 });
  for (let time = 0; time < 2; time += 1) {
    const response = await post(port, "/pay", key);
    assert.deepEqual([response.status, response.headers.get("idempotent-replayed"), await effects(admin, key)], [404, null, 0]);
  }
});

test("express: an error of a statement that the handler turns into an answer is not stored, and no success", async () => {
  const key = randomUUID();
  let status = 422;
  const port = await served(async (_, response) => {
    await pay(key);
    await currentTransaction()?.query("SELECT 1/0").catch(() => undefined);
    response.status(status).end();
  });
  assert.equal((await post(port, "/pay", key)).status, 422);
  status = 200;
  assert.equal((await post(port, "/pay", key)).status, 500);
  assert.equal(await effects(admin, key), 0);
});

test("express: a stream that is piped goes on when the client has gone", async () => {
  const key = randomUUID();
  const { opened, open } = latch();
  let begun = false;
  const port = await served(async (_, response) => {
    await pay(key);
    Readable.from((async function* () {
      yield "one ";
      begun = true;
      await opened;
      yield "two";
    })()).pipe(response);
  });
  const request = http.request({ host: "127.0.0.1", port, method: "POST", path: "/pay", headers: { "idempotency-key": key, "content-length": 0 } });
  request.on("error", () => undefined).end();
  await until("the handler has begun", () => begun);
  request.destroy();
  await until("the client has gone", () => request.closed);
  open();
  await until("the work is committed", async () => (await effects(admin, key)) === 1);
  const replay = await post(port, "/pay", key, "", { "content-type": "" });
  assert.deepEqual([replay.status, await replay.text(), replay.headers.get("idempotent-replayed")], [200, "one two", "true"]);
});

test("express: headers from outside of the handler are the exchange's own", async () => {
  const key = randomUUID();
  let request = 0;
  const app = express();
  app.use((_, response, next) => { response.set("X-Trace", String(request += 1)); next(); });
  app.post("/pay", expressIdempotent(poolOf(), OPTIONS, (_, response: Reply) => { response.set("Link", ["<a>", "<b>"] as never).end("paid"); }));
  const port = await listen(app);
  const traces = [];
  for (let time = 0; time < 2; time += 1) {
    const response = await post(port, "/pay", key);
    traces.push(response.headers.get("x-trace"));
    assert.equal(response.headers.get("link"), "<a>, <b>");
  }
  assert.deepEqual(traces, ["1", "2"]);
});

test("express: two keys, a body that is too large, and a store that is down", async () => {
  const port = await served((_, response) => { response.end("ran"); }, { maxRequestBytes: 10 });
  const two = http.request({ host: "127.0.0.1", port, method: "POST", path: "/pay", headers: [["Host", "localhost"], ["Idempotency-Key", "a"], ["Idempotency-Key", "b"], ["Content-Length", "0"]] as never }).end();
  const [answer] = (await event(two, "response")) as [http.IncomingMessage];
  assert.deepEqual([answer.statusCode, answer.headers["content-type"]], [400, "application/problem+json"]);
  answer.resume();
  assert.equal((await post(port, "/pay", randomUUID(), "x".repeat(11))).status, 413);
  assert.equal(await (await post(port, "/pay", null, "x")).text(), "ran");
  const down = await served((_, response) => { response.end("ran"); }, { tries: 2 }, poolOf({ host: "127.0.0.1", port: 1 }));
  const refused = await post(down, "/pay", randomUUID());
  assert.deepEqual([refused.status, refused.headers.get("retry-after"), refused.headers.get("content-type")], [503, "1", "application/problem+json"]);
});

test("express: a pool of two under sixty duplicates serves another key in between", async () => {
  const key = randomUUID();
  const { opened, open } = latch();
  let begun = false;
  const port = await served(async (request, response) => {
    if (request.get("idempotency-key") === key) {
      begun = true;
      await opened;
    }
    await pay(String(request.get("idempotency-key")));
    response.end("paid");
  }, { wait: 60_000 }, poolOf({ max: 2 }));
  const all = Array.from({ length: 60 }, () => post(port, "/pay", key));
  await until("the first has begun", () => begun);
  // While the first holds one connection; it goes on only after this.
  assert.equal(await (await post(port, "/pay", randomUUID())).text(), "paid");
  open();
  const answers = await Promise.all(all);
  assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200]));
  assert.equal(answers.filter(({ headers }) => headers.get("idempotent-replayed") === "true").length, 59);
  assert.equal(await effects(admin, key), 1);
});

test("express: a lease that is lost while the handler runs aborts its signal, and nothing is stored", async () => {
  const key = randomUUID();
  let wasAborted = false;
  const port = await served(async (_, response) => {
    const lease = currentLease();
    await admin.query("SELECT idempotent_forget_all('api')");
    await until("the signal is aborted", () => lease?.signal.aborted === true);
    wasAborted = true;
    response.end("must not be stored");
  }, { mode: "lease", lease: 600 });
  const lost = await post(port, "/pay", key);
  assert.deepEqual([lost.status, lost.headers.get("retry-after"), lost.headers.get("content-type")], [503, "1", "application/problem+json"]);
  assert.equal(wasAborted, true);
  const { rows } = await admin.query<{ outcome: string }>("SELECT outcome FROM idempotent_replay('api', $1)", [key]);
  assert.equal(rows[0]?.outcome, "absent");
});

for (const [status, kept, lost] of [[201, true, "claim"], [201, true, "answer"], [503, true, "answer"], [201, false, "answer"]] as const) {
  test(`express: a lease that loses the answer to the COMMIT of its ${lost} is served (${status}, ${kept ? "kept" : "not kept"})`, async () => {
    const key = randomUUID();
    const door = new Door();
    const pool = poolOf({ max: 4, host: "127.0.0.1", port: await door.open() });
    let runs = 0;
    const port = await served((_, response) => {
      runs += 1;
      if (lost === "answer" && runs === 1) { door.onCommit = "after"; }
      response.status(status).end(`run ${runs}`);
    }, { mode: "lease", wait: 0, store: () => kept }, pool);
    if (lost === "claim") { door.onCommit = "after"; }
    const first = await post(port, "/pay", key);
    assert.deepEqual([first.status, await first.text()], [status, "run 1"]);
    const isStored = status === 201 && kept;
    const again = await post(port, "/pay", key);
    assert.deepEqual([again.status, await again.text(), again.headers.get("idempotent-replayed")], [status, isStored ? "run 1" : "run 2", isStored ? "true" : null]);
  });
}

test("express: a handler that takes a lease over is told", async () => {
  const key = randomUUID();
  const found: unknown[] = [];
  const port = await served(async (_, response) => {
    const lease = currentLease();
    found.push([lease?.attempt, lease?.checkpoint]);
    if (lease?.attempt === 1) {
      await lease.save({ sent: true });
      throw new Error("the connection to the network broke");
    }
    response.end("done");
  }, { mode: "lease", lease: 2_000, wait: 20_000 });
  assert.deepEqual([(await post(port, "/pay", key)).status, (await post(port, "/pay", key)).status], [500, 200]);
  assert.deepEqual(found, [[1, null], [2, { sent: true }]]);
});

test("a request whose scope nobody knows is an error, and never everybody's", async () => {
  let runs = 0;
  const scope = (request: Asked): string => request.get("x-user") as string;
  const port = await served((_, response) => { runs += 1; response.end("done"); }, { scope });
  assert.equal((await post(port, "/pay", randomUUID())).status, 500);
  assert.equal(runs, 0);
  assert.equal((await post(port, "/pay", randomUUID(), "{}", { "x-user": "" })).status, 200);
  assert.equal((await post(port, "/pay", randomUUID(), "{}", { "x-user": "ada" })).status, 200);
});

test("fastify: payloads of every kind, returned or sent, are replayed as they were", async () => {
  const app = fastify();
  const kinds: Record<string, (reply: { send: (payload: unknown) => unknown }) => unknown> = {
    object: () => ({ a: 1 }), text: () => "text", bytes: () => Buffer.from([0, 255]), sent: (reply) => reply.send({ sent: true }),
    later: (reply) => { setImmediate(() => reply.send("later")); }, stream: () => Readable.from(["one", "two"]),
  };
  for (const [kind, answer] of Object.entries(kinds)) {
    app.post(`/${kind}`, fastifyIdempotent(poolOf(), { ...OPTIONS, operation: kind }, (_: unknown, reply: { send: (payload: unknown) => unknown }) => answer(reply)) as never);
  }
  await app.ready();
  after(() => app.close());
  for (const kind of Object.keys(kinds)) {
    const key = randomUUID();
    const inject = () => app.inject({ method: "POST", url: `/${kind}`, headers: { "idempotency-key": key }, payload: { x: 1 } });
    const [first, second] = [await inject(), await inject()];
    assert.deepEqual([second.statusCode, second.rawPayload, second.headers["content-type"]], [first.statusCode, first.rawPayload, first.headers["content-type"]], kind);
    assert.deepEqual([first.headers["idempotent-replayed"], second.headers["idempotent-replayed"]], [undefined, "true"], kind);
    assert.ok(first.rawPayload.length > 0, kind);
  }
});

test("fastify: hooks before serialization are called with a key as they are without one, and once", async () => {
  const app = fastify();
  let calls = 0;
  app.addHook("preSerialization", (_, __, payload, done) => { calls += 1; done(null, { data: payload }); });
  app.addHook("preSerialization", async (_, reply, payload) => { reply.header("X-Hooked", "1"); return Promise.resolve({ outer: payload }); });
  app.addHook("preSerialization", async () => { /* changes nothing */ });
  const answers = [{ ok: 1 }, null, "text", Buffer.from("bytes")];
  app.post("/:at", fastifyIdempotent(poolOf(), OPTIONS, ({ originalUrl }) => Promise.resolve(answers[Number(originalUrl.slice(1))])) as never);
  app.register((broken, _, done) => {
    broken.addHook("preSerialization", () => Promise.reject(new Error("broken")));
    broken.post("/broken", fastifyIdempotent(poolOf(), OPTIONS, async () => { await pay("broken hook"); return { ok: 1 }; }) as never);
    done();
  });
  await app.ready();
  after(() => app.close());
  for (const at of answers.keys()) {
    const ask = async (headers: Record<string, string>): Promise<unknown[]> => {
      calls = 0;
      const { statusCode, body, headers: sent } = await app.inject({ method: "POST", url: `/${at}`, headers });
      return [statusCode, body, sent["content-type"], sent["x-hooked"], calls];
    };
    const plain = await ask({});
    const keyed = { "idempotency-key": randomUUID() };
    assert.deepEqual(await ask(keyed), plain);
    assert.deepEqual(await ask(keyed), [...plain.slice(0, 4), 0]);
  }
  assert.equal((await app.inject({ method: "POST", url: "/broken", headers: { "idempotency-key": randomUUID() } })).statusCode, 500);
  assert.equal(await effects(admin, "broken hook"), 0);
});

test("fastify: an exception reaches the application's handler of errors", async () => {
  const app = fastify();
  app.setErrorHandler((error: Error, _, reply) => reply.code(500).send({ own: error.message }));
  app.post("/pay", fastifyIdempotent(poolOf(), OPTIONS, () => { throw new Error("broken"); }) as never);
  const { statusCode, body } = await app.inject({ method: "POST", url: "/pay", headers: { "idempotency-key": randomUUID() }, payload: { x: 1 } });
  assert.deepEqual([statusCode, body], [500, '{"own":"broken"}']);
  await app.close();
});

test("fetch: a whole application may be wrapped, and each run gets its request anew", async () => {
  const key = randomUUID();
  let runs = 0;
  const bodies: string[] = [];
  const handler = fetchIdempotent(poolOf(), OPTIONS, async (request) => {
    runs += 1;
    bodies.push(await request.text());
    await pay(key);
    if (runs === 1) { await currentTransaction()?.query("DO $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = '40001'; END $$"); }
    return Response.json({ runs }, { status: 201 });
  });
  const request = () => new Request("http://localhost/pay?x=1", { method: "POST", body: '{"a":1}', headers: { "idempotency-key": `"${key}"`, "content-type": "application/json" } });
  const [first, second] = [await handler(request()), await handler(request())];
  assert.deepEqual([first.status, await first.json(), second.status, await second.json()], [201, { runs: 2 }, 201, { runs: 2 }]);
  assert.equal(second.headers.get("idempotent-replayed"), "true");
  assert.deepEqual([bodies, await effects(admin, key)], [['{"a":1}', '{"a":1}'], 1]);
});

test("an operation that keeps larger answers than the adapter holds back is an error, and no replay of blanks", async () => {
  await admin.query("SELECT idempotent_operation('large', max_response_bytes => 1000000)");
  const port = await served((_, response) => { response.end("x".repeat(2_000)); }, { operation: "large", maxResponseBytes: 1_000 });
  assert.equal((await post(port, "/pay", randomUUID())).status, 500);
});
