/** What of a request counts: the key in its header, and the whole of its body. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { once as event } from "node:events";
import http, { type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { after, test } from "node:test";
import express, { type Response as Reply } from "express";
import fastify from "fastify";
import { type Context, Hono } from "hono";
import { expressIdempotent, fastifyIdempotent, fetchIdempotent, honoIdempotent } from "pg-idempotent/http";
import { freshDatabase, poolOf } from "./server.ts";

await freshDatabase("node_request");
const OPTIONS = { operation: "api", scope: null } as const;

async function listen(listener: RequestListener): Promise<number> {
  const server = http.createServer(listener).listen(0, "127.0.0.1");
  await event(server, "listening");
  after(() => { server.closeAllConnections(); server.close(); });
  return (server.address() as AddressInfo).port;
}

test("two headers Idempotency-Key are refused, whoever joins them; a comma within quotes is the key's own", async () => {
  let runs = 0;
  const viaFetch = fetchIdempotent(poolOf(), OPTIONS, () => { runs += 1; return new Response("ran"); });
  const hono = new Hono();
  hono.post("/pay", honoIdempotent(poolOf(), OPTIONS, (context: Context) => { runs += 1; return context.text("ran"); }));
  const inner = express().post("/pay", expressIdempotent(poolOf(), OPTIONS, (_, response: Reply) => { runs += 1; response.end("ran"); }));
  const app = fastify();
  app.post("/pay", fastifyIdempotent(poolOf(), OPTIONS, () => { runs += 1; return "ran"; }) as never);
  await app.listen({ host: "127.0.0.1", port: 0 });
  after(() => app.close());
  const over = (port: number) => async (keys: string[]): Promise<number> => {
    const headers = ["Host", "localhost", "Content-Length", "0", ...keys.flatMap((key) => ["Idempotency-Key", key])];
    const asked = http.request({ host: "127.0.0.1", port, method: "POST", path: "/pay", headers: headers as never }).end();
    const [answer] = (await event(asked, "response")) as [http.IncomingMessage];
    answer.resume();
    return answer.statusCode ?? 0;
  };
  const request = (keys: string[]): Request => new Request("http://localhost/pay", { method: "POST", headers: keys.map((key): [string, string] => ["idempotency-key", key]) });
  const all: Record<string, (keys: string[]) => Promise<number>> = {
    fetch: async (keys) => (await viaFetch(request(keys))).status, hono: async (keys) => (await hono.request(request(keys))).status,
    express: over(await listen(inner)), fastify: over((app.server.address() as AddressInfo).port),
  };
  for (const [name, ask] of Object.entries(all)) {
    const one = randomUUID();
    for (const keys of [[one, "b"], [`"${one}"`, '"b"'], [one, '"b"'], [`"${one}"`, "b"], ["", `"${one}"`]]) {
      assert.equal(await ask(keys), 400, `${name} ${keys.join(" | ")}`);
    }
    assert.equal(runs, 0, name);
    assert.equal(await ask([`"${one}, b"`]), 200, name);
    assert.equal(runs, 1, name);
    runs = 0;
  }
});
