/** Express, and what else hands on Node's own request and response. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Source } from "../drivers/pg.js";
import { DEFAULTS } from "../core/retry.js";
import { Capture } from "./capture.js";
import { type HttpAnswer, type HttpOptions, type Instead, MEBIBYTE, applies, exchange, isMultipart, takenApart } from "./exchange.js";
import { type Header, tooLarge } from "./problem.js";

/** What Express adds to a request, as far as it is needed here. */
export interface ExpressRequest extends IncomingMessage {
  originalUrl?: string;
  baseUrl?: string;
  params?: unknown;
  body?: unknown;
  /** Where a body parser has kept the bytes. */
  rawBody?: unknown;
}

type Next = (error?: unknown) => void;

/** Wraps a handler or a Router: `app.post("/pay", expressIdempotent(pool, {...}, handler))`, `app.use("/api", expressIdempotent(pool, {...}, router))`. As it may run
 * again, it cannot be what comes after a `next()`. Mount the body's parser before it: each run gets a copy of `body`. */
export function expressIdempotent<Tx, Incoming extends ExpressRequest, Outgoing extends ServerResponse>(
  pool: Source<Tx>,
  options: HttpOptions<Incoming>,
  handler: (request: Incoming, response: Outgoing, next: Next) => unknown,
): (request: Incoming, response: Outgoing, next: Next) => Promise<void> {
  return async (request, response, next) => {
    try {
      const keys = request.headersDistinct["idempotency-key"] ?? [];
      if (!applies(options, request.method ?? "", keys)) {
        await handler(request, response, next);
        return;
      }
      const limit = options.maxRequestBytes ?? MEBIBYTE;
      const body = await bodyOf(request, limit);
      if (body === undefined) {
        send(response, tooLarge(limit));
        return;
      }
      await run(pool, options, request, response, next, handler, keys, body);
    } catch (error) {
      next(error);
    }
  };
}

/** The handler called `next()`: the request is not its own. */
class Passed extends Error {}

async function run<Tx, Incoming extends ExpressRequest, Outgoing extends ServerResponse>(
  pool: Source<Tx>,
  options: HttpOptions<Incoming>,
  request: Incoming,
  response: Outgoing,
  next: Next,
  handler: (request: Incoming, response: Outgoing, next: Next) => unknown,
  keys: string[],
  { bytes, contentType }: Body,
): Promise<void> {
  const capture = new Capture(response, options.maxResponseBytes ?? MEBIBYTE);
  const again = remembered(request);
  const target = request.originalUrl ?? request.url ?? "/";
  try {
    const exchanged = await exchange(pool, options, request, { method: request.method ?? "", target, contentType, keys, body: bytes }, () => {
      again();
      return answered(capture, options.deadline ?? DEFAULTS.deadline, (pass) => handler(request, response, pass));
    });
    if ("ran" in exchanged) {
      capture.release();
      exchanged.ran.failed.catch((error: unknown) => {
        next(error instanceof Passed ? undefined : error);
      });
    } else {
      capture.restore();
      send(response, exchanged.instead);
    }
  } catch (error) {
    capture.restore();
    if (!(error instanceof Passed)) {
      throw error;
    }
    next();
  }
}

/** An answer whose handler may fail later: one that is streamed goes on after COMMIT. */
interface Begun extends HttpAnswer {
  /** Rejects with that. */
  failed: Promise<never>;
}

/** Runs the handler until it has answered, and until it is done as well: what it does after its answer is part of the work. */
async function answered(capture: Capture, patience: number, handler: (pass: Next) => unknown): Promise<Begun> {
  let timer: NodeJS.Timeout | undefined;
  const { promise: failed, reject: fail } = Promise.withResolvers<never>();
  try {
    return await new Promise<Begun>((resolve, reject) => {
      failed.catch(reject);
      const answer = capture.begin(() => {
        // The work goes on. But some handlers wait for a client that has gone, and must not hold a transaction for ever.
        timer = setTimeout(() => {
          reject(new Error("the client disconnected, and the handler did not answer"));
        }, patience);
      });
      const pass: Next = (error) => {
        fail(error ?? new Passed());
      };
      const done = (async () => await handler(pass))();
      done.catch(fail);
      answer.then(async (made) => {
        // One that is streamed is done when its stream is.
        if (made.isWhole) {
          await done;
        }
        resolve({ ...made, failed });
      }).catch(reject);
    });
  } finally {
    clearTimeout(timer);
  }
}

/** What a Router or a handler changes on the request, put back for each run. */
function remembered(request: ExpressRequest): () => void {
  const { url, baseUrl, params, body } = request;
  const copy: unknown = isPlain(body) ? structuredClone(body) : body;
  return () => {
    Object.assign(request, { url }, baseUrl !== undefined && { baseUrl }, params !== undefined && { params });
    if (isPlain(copy)) {
      request.body = structuredClone(copy);
    }
  };
}

function isPlain(value: unknown): value is object {
  return typeof value === "object" && value !== null && !(value instanceof Uint8Array);
}

interface Body {
  bytes: Uint8Array;
  contentType: string | null;
}

/** The body's bytes, which stay in the request for a parser to read; undefined if there are too many. */
async function bodyOf(request: ExpressRequest, limit: number): Promise<Body | undefined> {
  if (!request.readableEnded && !request.readableDidRead) {
    const bytes = await peek(request, limit);
    return bytes && { bytes, contentType: request.headers["content-type"] ?? null };
  }
  return parsedBody(request, limit);
}

/** A body that was parsed before. Where its bytes are gone, its content as JSON stands for them: white space and the order of members do not count anyway. */
export function parsedBody({ headers, rawBody, body }: Parsed, limit: number): Body | undefined {
  const contentType = String(headers["content-type"] ?? "") || null;
  const kept = rawBody ?? body;
  if (kept instanceof Uint8Array || typeof kept === "string") {
    const bytes = Buffer.from(kept);
    return bytes.byteLength > limit ? undefined : { bytes, contentType };
  }
  const hasContent = headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0;
  if (isMultipart(contentType) || (kept === undefined && hasContent)) {
    throw takenApart();
  }
  if (kept === undefined || (kept === null && !hasContent)) {
    return { bytes: new Uint8Array(), contentType };
  }
  const bytes = Buffer.from(JSON.stringify(kept));
  return bytes.byteLength > limit ? undefined : { bytes, contentType: "application/json" };
}

interface Parsed {
  headers: Record<string, string | string[] | undefined>;
  rawBody?: unknown;
  body?: unknown;
}

/** Reads a request to its end, and puts everything back before the stream says that it has ended. */
async function peek(request: IncomingMessage, limit: number): Promise<Uint8Array | undefined> {
  return await new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    const finish = (settle: () => void): void => {
      request.off("readable", onReadable).off("end", onEnd).off("error", onError).off("close", onClose);
      settle();
    };
    const onReadable = (): void => {
      for (let chunk = request.read() as Buffer | null; chunk !== null; chunk = request.read() as Buffer | null) {
        chunks.push(chunk);
        length += chunk.byteLength;
      }
      if (length > limit) {
        finish(() => {
          request.resume();
          resolve(undefined);
        });
      } else if (request.complete) {
        const body = Buffer.concat(chunks);
        if (body.byteLength > 0) {
          request.unshift(body);
        }
        finish(() => {
          resolve(body);
        });
      }
    };
    const onEnd = (): void => {
      finish(() => {
        resolve(Buffer.concat(chunks));
      });
    };
    const onError = (error: Error): void => {
      finish(() => {
        reject(error);
      });
    };
    const onClose = (): void => {
      onError(new Error("the client disconnected before it had sent its request"));
    };
    request.on("readable", onReadable).on("end", onEnd).on("error", onError).on("close", onClose);
  });
}

function send(response: ServerResponse, { status, headers, body }: Instead): void {
  response.statusCode = status;
  for (const [name, values] of grouped(headers)) {
    response.setHeader(name, values);
  }
  response.end(body);
}

/** Headers by name, in their order: one that is there several times has several values. */
export function grouped(headers: readonly Header[]): Map<string, string | string[]> {
  const found = new Map<string, { name: string; values: string[] }>();
  for (const [name, value] of headers) {
    const entry = found.get(name.toLowerCase()) ?? { name, values: [] };
    entry.values.push(value);
    found.set(name.toLowerCase(), entry);
  }
  return new Map(Array.from(found.values(), ({ name, values }) => [name, values.length === 1 ? (values[0] ?? "") : values]));
}
