/** Answers that are streamed after COMMIT: who hears that the client has gone, or that the handler has failed. And streams that are not sent. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { once as event } from "node:events";
import http, { type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import { after, test } from "node:test";
import { serve } from "@hono/node-server";
import express, { type NextFunction, type Request as Asked, type Response as Reply } from "express";
import fastify from "fastify";
import { Hono } from "hono";
import type pg from "pg";
import { expressIdempotent, fastifyIdempotent, fetchIdempotent, honoIdempotent } from "pg-idempotent/http";
import { Door, freshDatabase, poolOf, until } from "./server.ts";

await freshDatabase("node_streams");
const OPTIONS = { operation: "api", scope: null } as const;
const LARGE = Buffer.alloc(2 * 1024 * 1024, "x");

function closed(server: http.Server): number {
  after(() => { server.closeAllConnections(); server.close(); });
  return (server.address() as AddressInfo).port;
}

async function listen(listener: RequestListener): Promise<number> {
  const server = http.createServer(listener).listen(0, "127.0.0.1");
  await event(server, "listening");
  return closed(server);
}

async function viaFastify(handler: (reply: { header: (name: string, value: string) => unknown }) => unknown, pool: pg.Pool = poolOf()): Promise<number> {
  const app = fastify();
  app.post("/", fastifyIdempotent(pool, OPTIONS, (_: unknown, reply: { header: (name: string, value: string) => unknown }) => handler(reply)) as never);
  await app.listen({ host: "127.0.0.1", port: 0 });
  after(() => app.close());
  return (app.server.address() as AddressInfo).port;
}

async function viaHono(handler: (request: Request) => Response | Promise<Response>): Promise<number> {
  const app = new Hono();
  app.post("/", honoIdempotent(poolOf(), OPTIONS, (context) => handler(context.req.raw)));
  return await served(app);
}

async function viaFetch(handler: (request: Request) => Response | Promise<Response>): Promise<number> {
  const app = new Hono();
  const wrapped = fetchIdempotent(poolOf(), OPTIONS, handler);
  app.post("/", (context) => wrapped(context.req.raw));
  return await served(app);
}

async function served(app: Hono): Promise<number> {
  const server = serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }) as http.Server;
  await event(server, "listening");
  return closed(server);
}

async function post(port: number): Promise<Response> {
  return await fetch(`http://127.0.0.1:${port}/`, { method: "POST", headers: { "idempotency-key": randomUUID() } });
}

/** A client that reads the first bytes of an answer, and leaves. */
async function leaveAfterFirstBytes(port: number): Promise<void> {
  const request = http.request({ host: "127.0.0.1", port, method: "POST", path: "/", headers: { "idempotency-key": randomUUID() } }).end();
  request.on("error", () => undefined);
  const [answer] = (await event(request, "response")) as [http.IncomingMessage];
  answer.on("error", () => undefined);
  await event(answer, "data");
  request.destroy();
}

/** An event, and then silence. */
function silent(onCancel: () => void): ReadableStream<Uint8Array> {
  return new ReadableStream({ start: (controller) => { controller.enqueue(Buffer.from("data: 1\n\n")); }, cancel: onCancel });
}

test("fastify: the source of a stream is destroyed when the client leaves, though it has nothing to say", async () => {
  const source = new Readable({ read: () => undefined });
  source.push("data: 1\n\n");
  await leaveAfterFirstBytes(await viaFastify((reply) => { reply.header("content-type", "text/event-stream"); return source; }));
  await until("the source is destroyed", () => source.destroyed);
  let isCancelled = false;
  await leaveAfterFirstBytes(await viaFastify((reply) => {
    reply.header("content-type", "text/event-stream");
    return silent(() => { isCancelled = true; });
  }));
  await until("the stream is cancelled", () => isCancelled);
});

test("fastify: a stream that fails after COMMIT cuts the answer", async () => {
  const response = await post(await viaFastify(() => Readable.from((function* () {
    yield LARGE;
    throw new Error("broken");
  })())));
  assert.equal(response.status, 200);
  await assert.rejects(response.arrayBuffer());
});

test("fastify: the stream of a run that is rolled back is destroyed", async () => {
  const door = new Door();
  const pool = poolOf({ host: "127.0.0.1", port: await door.open() });
  const sources: Readable[] = [];
  const port = await viaFastify(() => {
    door.onCommit = sources.length === 0 ? "before" : undefined;
    // Without an end, so that it is destroyed by nothing but the adapter.
    const source = sources.length === 0 ? new Readable({ read: () => undefined }) : Readable.from([LARGE]);
    if (sources.length === 0) { source.push(LARGE); }
    sources.push(source);
    return source;
  }, pool);
  assert.equal((await (await post(port)).arrayBuffer()).byteLength, LARGE.byteLength);
  assert.deepEqual(sources.map(({ destroyed }) => destroyed), [true, true]);
});

for (const [name, via] of Object.entries({ fetch: viaFetch, hono: viaHono })) {
  test(`${name}: signal and stream of a streamed answer hear that the client has left`, async () => {
    let isCancelled = false;
    let signal: AbortSignal | undefined;
    await leaveAfterFirstBytes(await via((request) => {
      ({ signal } = request);
      return new Response(silent(() => { isCancelled = true; }), { headers: { "content-type": "text/event-stream" } });
    }));
    await until("the stream is cancelled", () => isCancelled);
    await until("the signal is aborted", () => signal?.aborted === true);
  });
}

test("fetch: a client that leaves before COMMIT aborts no work", async () => {
  const client = new AbortController();
  const handler = fetchIdempotent(poolOf(), OPTIONS, async (request) => {
    client.abort();
    await new Promise(setImmediate);
    return new Response(String(request.signal.aborted));
  });
  const request = new Request("http://localhost/", { method: "POST", headers: { "idempotency-key": randomUUID() }, signal: client.signal });
  assert.equal(await (await handler(request)).text(), "false");
});

/** An application of Express, and what its handler of errors was told. */
async function viaExpress(handler: (request: Asked, response: Reply, next: NextFunction) => unknown): Promise<{ port: number; told: string[] }> {
  const told: string[] = [];
  const app = express();
  app.post("/", expressIdempotent(poolOf(), OPTIONS, handler));
  app.use((error: Error, _: Asked, response: Reply, next: NextFunction) => {
    told.push(error.message);
    if (response.headersSent) { next(error); } else { response.status(500).end(); }
  });
  // What Express itself does is to write such an error to stderr.
  app.set("env", "test");
  return { port: await listen(app), told };
}

for (const [how, fail] of Object.entries({
  "throws": () => { throw new Error("broken"); },
  "passes an error on": (next: NextFunction) => { next(new Error("broken")); },
})) {
  test(`express: a handler that ${how} in the middle of a streamed answer cuts it, and the application is told`, async () => {
    const { port, told } = await viaExpress((_, response, next) => {
      response.write(LARGE);
      fail(next);
    });
    // Refused where that comes before COMMIT; never left open, and never whole.
    const ended = await post(port).then(async (response) => (await response.arrayBuffer()).byteLength > 0 ? "whole" : response.status).catch(() => "cut");
    assert.ok(ended === "cut" || ended === 500, String(ended));
    assert.deepEqual(told, ["broken"]);
  });
}

test("express: a handler that fails after COMMIT cuts its answer, and the application is told", async () => {
  const { promise, reject } = Promise.withResolvers<never>();
  const { port, told } = await viaExpress(async (_, response) => {
    response.type("text/event-stream").write("data: 1\n\n");
    await promise;
  });
  const response = await post(port);
  reject(new Error("broken"));
  assert.equal(response.status, 200);
  await assert.rejects(response.text());
  assert.deepEqual(told, ["broken"]);
});

test("express: a streamed handler hears that the client has left", async () => {
  let isClosed = false;
  const { port } = await viaExpress((_, response) => {
    response.type("text/event-stream").write("data: 1\n\n");
    response.on("close", () => { isClosed = true; });
  });
  await leaveAfterFirstBytes(port);
  await until("the handler is told", () => isClosed);
});
