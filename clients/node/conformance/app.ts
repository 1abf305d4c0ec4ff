/** The application of the conformance suite: `node conformance/app.ts FRAMEWORK MODE PORT`. */
import { appendFileSync, readFileSync } from "node:fs";
import { type Server, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { serve } from "@hono/node-server";
import express from "express";
import fastify, { type FastifyReply, type FastifyRequest } from "fastify";
import { type Context, Hono } from "hono";
import pg from "pg";
import postgres from "postgres";
import { type Database, type Source, currentTransaction } from "pg-idempotent";
import { type HttpOptions, expressIdempotent, fastifyIdempotent, fetchIdempotent, honoIdempotent } from "pg-idempotent/http";
import { fromPostgres } from "pg-idempotent/postgres";

const [framework = "express", mode = "transaction", port = "0"] = process.argv.slice(2);
const operation = "conformance";
/** What tries were made outlives the process. */
const TRIES = process.env["CONFORMANCE_TRIES"] ?? "conformance.tries";

const pool = new pg.Pool({ max: 10 });
pool.on("error", () => undefined);
// One of the frameworks goes by way of the other driver.
const sql = framework === "fastify" ? postgres({ max: 10, onnotice: () => undefined, prepare: process.env["PREPARED"] !== "0" }) : undefined;
const database: Source<unknown> = sql === undefined ? (pool) : (fromPostgres(sql) as Database<unknown>);

/** An answer of any route, for each framework to send. */
interface Made {
  status: number;
  headers: Record<string, string>;
  body?: string | Uint8Array | AsyncIterable<string>;
}

interface Asked {
  path: string;
  query: URLSearchParams;
  header: (name: string) => string | undefined;
  body: Uint8Array;
}

const gates = new Map<string, { entered: PromiseWithResolvers<undefined>; open: PromiseWithResolvers<undefined> }>();

function gate(name: string): { entered: PromiseWithResolvers<undefined>; open: PromiseWithResolvers<undefined> } {
  const found = gates.get(name) ?? { entered: Promise.withResolvers<undefined>(), open: Promise.withResolvers<undefined>() };
  gates.set(name, found);
  return found;
}

function within30s(promise: Promise<unknown>): Promise<boolean> {
  return Promise.race([promise.then(() => true), new Promise<boolean>((resolve) => { setTimeout(resolve, 30_000, false).unref(); })]);
}

/** How often this was tried, this time included. */
function tried(what: string): number {
  appendFileSync(TRIES, `${what}\n`);
  return readFileSync(TRIES, "utf8").split("\n").filter((line) => line === what).length;
}

async function rows(text: string, values: string[] = []): Promise<Record<string, unknown>[]> {
  const tx = currentTransaction<unknown>();
  if (tx !== undefined && sql !== undefined) {
    return await (tx as postgres.TransactionSql).unsafe(text, values);
  }
  return (await ((tx ?? pool) as pg.Pool).query<Record<string, unknown>>(text, values)).rows;
}

async function work({ path, query, header, body }: Asked): Promise<Made> {
  const id = String((await rows('INSERT INTO conformance_effect ("case") VALUES ($1) RETURNING id::text', [header("x-case") ?? ""]))[0]?.["id"]);
  const json = { "Content-Type": "application/json", ETag: `"${id}"` };
  const what = `${path} ${header("idempotency-key") ?? ""}`;
  const times = Number(query.get("times") ?? 0);
  switch (path) {
    case "/echo":
      return { status: 200, headers: { "Content-Type": header("content-type") ?? "application/octet-stream" }, body };
    case "/status": {
      const status = Number(query.get("code"));
      const headers = status === 429 || status === 503 ? { ...json, "Retry-After": "1" } : json;
      return status === 204 || status === 304 ? { status, headers } : { status, headers, body: JSON.stringify({ effect: Number(id) }) };
    }
    case "/large":
      return { status: 200, headers: { "Content-Type": "text/plain", ETag: `"${id}"` }, body: "x".repeat(Number(query.get("bytes"))) };
    case "/stream":
      return stream(id, query);
    case "/deferred":
      // What only COMMIT refuses.
      await rows(`DO $$ BEGIN
        CREATE TEMP TABLE deferred (id int UNIQUE DEFERRABLE INITIALLY DEFERRED) ON COMMIT DROP; INSERT INTO deferred VALUES (1), (1);
      END $$`);
      if (query.has("chunks")) {
        return stream(id, query);
      }
      break;
    case "/raise":
      throw new Error("raised");
    case "/conflict":
      if (tried(what) <= times) {
        await rows("DO $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = '40001'; END $$");
      }
      break;
    case "/held":
      await passGate(query);
      break;
    case "/crash":
      if (tried(what) <= times) {
        process.exit(70);
      }
      break;
  }
  const headers = { ...json, Location: `/pay/${id}`, "Set-Cookie": `session=${id}`, "X-Request-Id": id };
  return { status: 201, headers, body: JSON.stringify({ payment: Number(id) }) };
}

async function passGate(query: URLSearchParams): Promise<void> {
  const { entered, open } = gate(query.get("gate") ?? "");
  entered.resolve(undefined);
  await within30s(open.promise);
}

function stream(id: string, query: URLSearchParams): Made {
  return { status: 200, headers: { "Content-Type": "text/event-stream", ETag: `"${id}"` }, body: events(id, query) };
}

async function* events(id: string, query: URLSearchParams): AsyncGenerator<string> {
  for (let chunk = 0; chunk < Number(query.get("chunks")); chunk += 1) {
    yield `data: ${id}\n\n`;
    await (query.has("gate") ? passGate(query) : new Promise(setImmediate));
  }
}

/** The routes that are for the runner alone. */
async function aside(method: string, path: string, query: URLSearchParams): Promise<Made> {
  if (path === "/effects") {
    const { rows: counted } = await pool.query<{ n: number }>('SELECT count(*)::integer AS n FROM conformance_effect WHERE "case" = $1', [query.get("case")]);
    return { status: 200, headers: { "Content-Type": "application/json" }, body: String(counted[0]?.n) };
  }
  const { entered, open } = gate(query.get("gate") ?? "");
  if (method === "POST") {
    open.resolve(undefined);
    return { status: 204, headers: {} };
  }
  return { status: (await within30s(entered.promise)) ? 204 : 504, headers: {} };
}

function options<Incoming>(path: string, tenant: (request: Incoming) => string): HttpOptions<Incoming> {
  return { operation, scope: tenant, required: path !== "/optional", mode: mode === "lease" ? "lease" : "transaction", lease: 30_000, releaseOnError: true, maxResponseBytes: 100_000 };
}

const ROUTES = ["/pay", "/refund", "/optional", "/echo", "/status", "/large", "/stream", "/deferred", "/raise", "/conflict", "/held", "/crash"];
const ASIDE = ["/gate", "/effects"];

function response({ status, headers, body }: Made): Response {
  const bytes = typeof body === "object" && !(body instanceof Uint8Array) ? (ReadableStream.from(body).pipeThrough(new TextEncoderStream()) as ReadableStream) : body;
  return new Response((bytes as Uint8Array<ArrayBuffer> | string | undefined) ?? null, { status, headers });
}

async function viaFetch(request: Request): Promise<Response> {
  const { pathname: path, searchParams: query } = new URL(request.url);
  const body = new Uint8Array(await request.arrayBuffer());
  return response(await work({ path, query, header: (name) => request.headers.get(name) ?? undefined, body }));
}

function viaExpress(): Server {
  const app = express().disable("x-powered-by");
  for (const path of ROUTES) {
    const handler = expressIdempotent(database, options<express.Request>(path, (request) => request.get("x-tenant") ?? ""), async (request, reply: express.Response) => {
      const chunks: Uint8Array[] = [];
      for await (const chunk of request) {
        chunks.push(chunk as Uint8Array);
      }
      const made = await work({ path, query: queryOf(request.originalUrl), header: (name) => request.get(name), body: Buffer.concat(chunks) });
      reply.status(made.status).set(made.headers);
      if (typeof made.body === "object" && !(made.body instanceof Uint8Array)) {
        for await (const chunk of made.body) {
          reply.write(chunk);
        }
        reply.end();
      } else {
        reply.end(made.body);
      }
    });
    app.post(path, handler).patch(path, handler);
  }
  app.all(ASIDE, async (request, reply) => {
    const { status, headers, body } = await aside(request.method, request.path, queryOf(request.originalUrl));
    reply.status(status).set(headers).end(body);
  });
  return createServer(app);
}

function queryOf(target: string): URLSearchParams {
  return new URL(target, "http://localhost").searchParams;
}

async function viaFastify(): Promise<Server> {
  const app = fastify({ bodyLimit: 1 << 21 });
  // Bytes as they come: what a route makes of them is its own.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", { parseAs: "buffer" }, (_, body, done) => { done(null, body); });
  const tenant = (request: FastifyRequest): string => (request.headers["x-tenant"] as string | undefined) ?? "";
  for (const url of ROUTES) {
    const handler = fastifyIdempotent(database, options(url, tenant), async (request: FastifyRequest, reply: FastifyReply) => {
      const header = (name: string): string | undefined => request.headers[name] as string | undefined;
      const made = await work({ path: url, query: queryOf(request.originalUrl), header, body: (request.body ?? new Uint8Array()) as Uint8Array });
      reply.code(made.status).headers(made.headers);
      return typeof made.body === "object" && !(made.body instanceof Uint8Array) ? ReadableStream.from(made.body).pipeThrough(new TextEncoderStream()) : made.body;
    });
    app.route({ method: ["POST", "PATCH"], url, handler });
  }
  for (const url of ASIDE) {
    app.route({ method: ["GET", "POST"], url, handler: async (request, reply) => {
      const { status, headers, body } = await aside(request.method, url, queryOf(request.originalUrl));
      return reply.code(status).headers(headers).send(body);
    } });
  }
  await app.ready();
  return app.server;
}

function viaHono(): Hono {
  const app = new Hono();
  for (const path of ROUTES) {
    app.on(["POST", "PATCH"], path, honoIdempotent(database, options<Context>(path, (context) => context.req.header("x-tenant") ?? ""), async (context) => {
      const body = new Uint8Array(await context.req.arrayBuffer());
      return response(await work({ path, query: queryOf(context.req.url), header: (name) => context.req.header(name), body }));
    }));
  }
  return app;
}

function viaPlainFetch(): Hono {
  const app = new Hono();
  for (const path of ROUTES) {
    const handler = fetchIdempotent(database, options<Request>(path, (request) => request.headers.get("x-tenant") ?? ""), viaFetch);
    app.on(["POST", "PATCH"], path, (context) => handler(context.req.raw));
  }
  return app;
}

function listening(address: AddressInfo | string | null): void {
  console.log(`listening on ${typeof address === "object" && address !== null ? address.port : String(address)}`);
}

if (framework === "hono" || framework === "fetch") {
  const app = framework === "hono" ? viaHono() : viaPlainFetch();
  app.all("/gate", async (context) => response(await aside(context.req.method, "/gate", queryOf(context.req.url))));
  app.get("/effects", async (context) => response(await aside("GET", "/effects", queryOf(context.req.url))));
  app.onError((error, context) => context.text(error.message, 500));
  serve({ fetch: app.fetch, port: Number(port), hostname: "127.0.0.1" }, listening);
} else {
  const server = framework === "fastify" ? await viaFastify() : viaExpress();
  server.listen(Number(port), "127.0.0.1", () => { listening(server.address()); });
}
