/** What of a request counts: the key in its header, and the whole of its body. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { once as event } from "node:events";
import http, { type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { after, test } from "node:test";
import express, { type NextFunction, type Request as Asked, type Response as Reply } from "express";
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

/** A multipart body with one field and one file. */
function upload(file: string): { body: string; headers: Record<string, string> } {
  const part = (name: string, content: string): string => `--seam\r\nContent-Disposition: form-data; ${name}\r\n\r\n${content}\r\n`;
  return {
    body: `${part('name="amount"', "1")}${part('name="file"; filename="a.txt"', file)}--seam--\r\n`,
    headers: { "content-type": "multipart/form-data; boundary=seam" },
  };
}

type Ask = (key: string, file: string, within: string) => Promise<number>;

/** POSTs a file to `/before`, whose parser stands before the adapter, to `/kept`, where it keeps the bytes, and to `/within`, where it stands within the handler. */
const uploads: Record<string, () => Promise<Ask>> = {
  express: async () => {
    const app = express();
    /** As multer does: fields in the body, files beside it. */
    const files = (keeps: boolean) => (request: Parsed, _: Reply, next: NextFunction): void => {
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => { chunks.push(chunk); }).on("end", () => {
        Object.assign(request, { body: { amount: "1" }, file: Buffer.concat(chunks) }, keeps && { rawBody: Buffer.concat(chunks) });
        next();
      });
    };
    const answer = (request: Parsed, response: Reply): void => { response.end(request.file); };
    app.post("/before", files(false), expressIdempotent(poolOf(), OPTIONS, answer));
    app.post("/kept", files(true), expressIdempotent(poolOf(), OPTIONS, answer));
    app.post("/within", expressIdempotent(poolOf(), OPTIONS, express.Router().use(files(false), answer)));
    app.use((error: Error, _: Asked, response: Reply, next: NextFunction) => { if (error instanceof TypeError) { response.status(500).end(); } else { next(error); } });
    return over(await listen(app));
  },
  fastify: async () => {
    const app = fastify();
    const answer = (): string => "uploaded";
    await app.register((before, _, done) => {
      // As @fastify/multipart does: the handler reads the parts from the request.
      before.addContentTypeParser("multipart/form-data", (_request, payload, parsed) => { payload.resume().on("end", () => { parsed(null); }); });
      before.post("/before", fastifyIdempotent(poolOf(), OPTIONS, answer) as never);
      done();
    });
    await app.register((within, _, done) => {
      within.addContentTypeParser("multipart/form-data", { parseAs: "buffer" }, (request, body, parsed) => {
        Object.assign(request, request.url === "/kept" && { rawBody: body });
        parsed(null, request.url === "/kept" ? { amount: "1" } : body);
      });
      within.post("/kept", fastifyIdempotent(poolOf(), OPTIONS, answer) as never);
      within.post("/within", fastifyIdempotent(poolOf(), OPTIONS, answer) as never);
      done();
    });
    await app.listen({ host: "127.0.0.1", port: 0 });
    after(() => app.close());
    return over((app.server.address() as AddressInfo).port);
  },
  hono: () => {
    const app = new Hono();
    const adapted = honoIdempotent(poolOf(), OPTIONS, async (context: Context) => context.json((await context.req.formData()).get("amount")));
    app.post("/before", async (context, next) => { await context.req.formData(); await next(); }, adapted);
    // Which keeps the bytes by itself.
    app.post("/kept", async (context, next) => { await context.req.parseBody(); await next(); }, adapted);
    app.post("/within", adapted);
    app.onError((_, context) => context.body(null, 500));
    return Promise.resolve(async (key, file, path) => {
      const { body, headers } = upload(file);
      return (await app.request(path, { method: "POST", body, headers: { ...headers, "idempotency-key": key } })).status;
    });
  },
};

interface Parsed extends Asked {
  file?: Buffer;
}

function over(port: number): Ask {
  return async (key, file, path) => {
    const { body, headers } = upload(file);
    const answer = await fetch(`http://127.0.0.1:${port}${path}`, { method: "POST", body, headers: { ...headers, "idempotency-key": key } });
    await answer.arrayBuffer();
    return answer.status;
  };
}

for (const [name, open] of Object.entries(uploads)) {
  test(`${name}: another file is another request, and a body that was taken apart before is refused`, async () => {
    const ask = await open();
    for (const path of ["/kept", "/within"]) {
      const key = randomUUID();
      assert.deepEqual([await ask(key, "one", path), await ask(key, "two", path), await ask(key, "one", path)], [200, 422, 200], path);
    }
    assert.equal(await ask(randomUUID(), "one", "/before"), 500);
  });
}
