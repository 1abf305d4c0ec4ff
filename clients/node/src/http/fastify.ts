/** Fastify. */
import { Readable } from "node:stream";
import type { Source } from "../drivers/pg.js";
import { type HttpAnswer, type HttpOptions, MEBIBYTE, applies, exchange } from "./exchange.js";
import { grouped, parsedBody } from "./express.js";
import { isEndless } from "./fetch.js";
import { type Header, tooLarge } from "./problem.js";

/** What Fastify hands to a handler, as far as it is needed here. */
export interface FastifyRequestLike {
  method: string;
  originalUrl: string;
  headers: Record<string, string | string[] | undefined>;
  body: unknown;
  raw: { headersDistinct?: NodeJS.Dict<string[]> };
  /** Where a plugin has kept the body's bytes. */
  rawBody?: unknown;
}

export interface FastifyReplyLike {
  statusCode: number;
  code(status: number): unknown;
  header(name: string, value: unknown): unknown;
  removeHeader(name: string): unknown;
  getHeaders(): Record<string, number | string | string[] | undefined>;
  serialize(payload: unknown): string | ArrayBuffer | Buffer;
  send(payload?: unknown): unknown;
}

interface Made extends HttpAnswer {
  rest: Rest | undefined;
}

/** What comes after the bytes that have been read of a stream. */
interface Rest {
  chunks: AsyncIterator<Uint8Array>;
  source: Readable;
}

/** Wraps a handler: `app.post("/pay", fastifyIdempotent(pool, {...}, async (request, reply) => ...))`. It may return its payload or pass it to `reply.send`; what is sent after
 * COMMIT goes through the hooks `onSend` like any other; `preSerialization` is called before, and not for a replay. */
export function fastifyIdempotent<Tx, Incoming extends FastifyRequestLike, Outgoing extends FastifyReplyLike>(
  pool: Source<Tx>,
  options: HttpOptions<Incoming>,
  handler: (request: Incoming, reply: Outgoing) => unknown,
): (request: Incoming, reply: Outgoing) => Promise<unknown> {
  return async (request, reply) => {
    const keys = keysOf(request);
    if (!applies(options, request.method, keys)) {
      return await handler(request, reply);
    }
    const limit = options.maxRequestBytes ?? MEBIBYTE;
    const parsed = parsedBody(request, limit);
    const kept = new Kept(request, reply);
    if (parsed === undefined) {
      return kept.send(tooLarge(limit));
    }
    const body: unknown = typeof request.body === "object" && !(request.body instanceof Uint8Array) ? structuredClone(request.body) : request.body;
    let last: Made | undefined;
    // What a run has left that is not sent.
    const forget = (): void => {
      kept.restore();
      last?.rest?.source.destroy();
      last = undefined;
    };
    const about = { method: request.method, target: request.originalUrl, contentType: parsed.contentType, keys, body: parsed.bytes };
    try {
      const exchanged = await exchange<Tx, Incoming, Made>(pool, options, request, about, async () => {
        forget();
        request.body = typeof body === "object" && !(body instanceof Uint8Array) ? structuredClone(body) : body;
        last = await kept.answered(options.maxResponseBytes ?? MEBIBYTE, (own) => handler(request, own));
        return last;
      });
      if ("ran" in exchanged) {
        return reply.send(payloadOf(exchanged.ran));
      }
      forget();
      return kept.send(exchanged.instead);
    } catch (error) {
      forget();
      throw error;
    }
  };
}

/** What `inject` makes up for a request knows no header apart. */
function keysOf({ raw, headers }: FastifyRequestLike): string[] {
  return raw.headersDistinct === undefined ? [headers["idempotency-key"] ?? []].flat() : (raw.headersDistinct["idempotency-key"] ?? []);
}

function payloadOf({ body, rest }: Made): unknown {
  if (rest === undefined) {
    return body.byteLength === 0 ? undefined : Buffer.from(body);
  }
  const { chunks, source } = rest;
  const payload = new Readable({
    read() {
      chunks.next().then(({ done, value }) => this.push(done === true ? null : value), (error: unknown) => this.destroy(error as Error));
    },
    // When the client leaves, though the source may have nothing to say for long.
    destroy(error, callback) {
      source.destroy();
      callback(error);
    },
  });
  if (body.byteLength > 0) {
    payload.push(body);
  }
  return payload;
}

/** A reply that is kept back. */
class Kept<Outgoing extends FastifyReplyLike> {
  readonly #request: object;
  readonly #reply: Outgoing;
  readonly #before: Record<string, unknown>;
  readonly #statusBefore: number;

  constructor(request: object, reply: Outgoing) {
    this.#request = request;
    this.#reply = reply;
    this.#before = { ...reply.getHeaders() };
    this.#statusBefore = reply.statusCode;
  }

  restore(): void {
    for (const name of Object.keys(this.#reply.getHeaders())) {
      this.#reply.removeHeader(name);
    }
    for (const [name, value] of Object.entries(this.#before)) {
      this.#reply.header(name, value);
    }
    this.#reply.code(this.#statusBefore);
  }

  send({ status, headers, body }: { status: number; headers: Header[]; body: Uint8Array }): unknown {
    this.#reply.code(status);
    for (const [name, value] of grouped(headers)) {
      this.#reply.header(name, value);
    }
    return this.#reply.send(body.byteLength === 0 ? undefined : Buffer.from(body));
  }

  /** Runs the handler with a reply that sends nothing. */
  async answered(limit: number, handler: (reply: Outgoing) => unknown): Promise<Made> {
    let passed: { payload: unknown } | undefined;
    let onSent: () => void = () => undefined;
    const sent = new Promise<void>((resolve) => {
      onSent = resolve;
    });
    const own = Object.create(this.#reply, {
      send: {
        value: (payload: unknown): unknown => {
          passed ??= { payload };
          onSent();
          return own;
        },
      },
      sent: { get: () => passed !== undefined },
    }) as Outgoing;
    const given: unknown = handler(own);
    const returned = given instanceof Promise ? ((await given) as unknown) : given;
    // As in Fastify: a handler that returns the reply sends later, or has; so does one that is not asynchronous and returns nothing.
    if (returned === own || (given === undefined && passed === undefined)) {
      await sent;
    }
    const { payload } = passed ?? { payload: returned };
    if (payload instanceof Error) {
      throw payload;
    }
    return await this.#made(payload, limit, own);
  }

  async #made(sent: unknown, limit: number, own: Outgoing): Promise<Made> {
    const reply = this.#reply;
    if (isStream(sent)) {
      return await this.#streamed(sent, limit);
    }
    const isBytes = sent instanceof Uint8Array;
    const isText = typeof sent === "string";
    if (sent !== undefined && reply.getHeaders()["content-type"] === undefined) {
      reply.header("content-type", isBytes ? "application/octet-stream" : isText ? "text/plain; charset=utf-8" : "application/json; charset=utf-8");
    }
    const content = sent === undefined ? "" : isBytes || isText ? sent : reply.serialize(await preSerialized(this.#request, own, sent));
    const body = typeof content === "string" ? Buffer.from(content) : new Uint8Array(content);
    return { status: reply.statusCode, headers: this.#headers(), body, isWhole: body.byteLength <= limit, rest: undefined };
  }

  async #streamed(stream: Readable | ReadableStream<Uint8Array>, limit: number): Promise<Made> {
    const status = this.#reply.statusCode;
    const headers = this.#headers();
    const source = stream instanceof Readable ? stream : Readable.fromWeb(stream);
    const iterator = bytesOf(source);
    const contentType = this.#reply.getHeaders()["content-type"];
    const isLive = isEndless(contentType === undefined ? null : String(contentType));
    const chunks: Uint8Array[] = [];
    let length = 0;
    while (!isLive && length <= limit) {
      const { done, value } = await iterator.next();
      if (done === true) {
        return { status, headers, body: Buffer.concat(chunks), isWhole: true, rest: undefined };
      }
      chunks.push(value);
      length += value.byteLength;
    }
    return { status, headers, body: Buffer.concat(chunks), isWhole: false, rest: { chunks: iterator, source } };
  }

  /** Those that the handler has set; what was there before belongs to the exchange. */
  #headers(): Header[] {
    return Object.entries(this.#reply.getHeaders()).flatMap(([name, value]) =>
      value === undefined || JSON.stringify(value) === JSON.stringify(this.#before[name]) ? [] : [value].flat().map((one): Header => [name, String(one)]),
    );
  }
}

type Hook = (request: unknown, reply: unknown, payload: unknown, done: (error?: unknown, payload?: unknown) => void) => unknown;

/** What the hooks `preSerialization` make of a payload. What is stored has been serialized, so that Fastify itself calls them for none that is sent. */
async function preSerialized(request: object, reply: unknown, payload: unknown): Promise<unknown> {
  let made = payload;
  for (const hook of hooksOf(request)) {
    const changed = await new Promise<unknown>((resolve, reject) => {
      const returned = hook(request, reply, made, (error, next) => {
        if (error === undefined || error === null) {
          resolve(next);
        } else {
          reject(error instanceof Error ? error : new Error("a hook preSerialization failed", { cause: error }));
        }
      });
      // As in Fastify: a hook either is asynchronous or calls `done`.
      if (isThenable(returned)) {
        returned.then(resolve, reject);
      }
    });
    made = changed === undefined ? made : changed;
  }
  return made;
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === "function";
}

/** Fastify keeps them in the context of the route, and has no other way to ask for them. */
function hooksOf(request: object): readonly Hook[] {
  for (const symbol of Object.getOwnPropertySymbols(request)) {
    if (symbol.description === "fastify.context") {
      return (Reflect.get(request, symbol) as { preSerialization?: Hook[] | null }).preSerialization ?? [];
    }
  }
  return [];
}

function isStream(payload: unknown): payload is Readable | ReadableStream<Uint8Array> {
  return payload instanceof Readable || payload instanceof ReadableStream;
}

async function* bytesOf(stream: AsyncIterable<Uint8Array | string>): AsyncGenerator<Uint8Array, undefined> {
  for await (const chunk of stream) {
    yield typeof chunk === "string" ? Buffer.from(chunk) : chunk;
  }
  return undefined;
}
