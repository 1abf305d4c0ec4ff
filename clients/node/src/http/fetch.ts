/** Handlers of the Fetch standard, `(Request) => Response`: Next, Hono's `c.req.raw`, and whatever else speaks it. */
import { type Exchanged, type HttpAnswer, type HttpOptions, type HttpRequest, MEBIBYTE, applies, exchange, takenApart } from "./exchange.js";
import type { Source } from "../drivers/pg.js";
import { type Header, tooLarge } from "./problem.js";

interface Buffered extends HttpAnswer {
  response: Response;
  /** What has been read of a body that is not whole, and what comes after. */
  rest: ReadableStreamDefaultReader<Uint8Array> | undefined;
}

/** Wraps a handler. It gets the request anew, with the whole body, each time it runs. */
export function fetchIdempotent<Tx>(
  pool: Source<Tx>,
  options: HttpOptions<Request>,
  handler: (request: Request) => Response | Promise<Response>,
): (request: Request) => Promise<Response> {
  return async (request) => {
    const keys = keysOf(request.headers);
    if (!applies(options, request.method, keys)) {
      return await handler(request);
    }
    const body = await bodyOf(request, options.maxRequestBytes ?? MEBIBYTE);
    if (body === undefined) {
      return responseOf(tooLarge(options.maxRequestBytes ?? MEBIBYTE));
    }
    // With a signal of its own: a client that disconnects does not stop the work, but what is streamed after COMMIT.
    let leaving = new AbortController();
    const again = (): Request => {
      leaving = new AbortController();
      return new Request(request.url, { method: request.method, headers: request.headers, body, signal: leaving.signal });
    };
    const response = await fetched(pool, options, request, requestOf(request, keys, body), async () => await handler(again()));
    handOn(request.signal, leaving);
    return response;
  };
}

function handOn(signal: AbortSignal, leaving: AbortController): void {
  const leave = (): void => {
    leaving.abort(signal.reason);
  };
  if (signal.aborted) {
    leave();
  } else {
    signal.addEventListener("abort", leave, { once: true });
  }
}

/** What Hono hands to a handler, as far as it is needed here. */
interface HonoContext {
  req: { raw: Request; arrayBuffer(): Promise<ArrayBuffer>; bodyCache: object };
  res: Response | undefined;
  finalized: boolean;
  status(status: never): void;
  header(name: string, value?: string, options?: { append?: boolean }): void;
  newResponse(body: null): Response;
}

/** Wraps a handler of Hono: `app.post("/pay", honoIdempotent(pool, {...}, async (c) => c.json(...)))`. */
export function honoIdempotent<Tx, Context extends HonoContext>(
  pool: Source<Tx>,
  options: HttpOptions<Context>,
  handler: (context: Context) => Response | Promise<Response>,
): (context: Context) => Promise<Response> {
  return async (context) => {
    const { raw } = context.req;
    const keys = keysOf(raw.headers);
    if (!applies(options, raw.method, keys)) {
      return await handler(context);
    }
    const { bodyCache } = context.req;
    if ("formData" in bodyCache && !("arrayBuffer" in bodyCache)) {
      throw takenApart();
    }
    const limit = options.maxRequestBytes ?? MEBIBYTE;
    // Hono keeps what it has read, so that the handler can read it again.
    const body = Number(raw.headers.get("content-length") ?? 0) > limit ? undefined : new Uint8Array(await context.req.arrayBuffer());
    if (body === undefined || body.byteLength > limit) {
      return responseOf(tooLarge(limit));
    }
    const run = async (): Promise<Response> => {
      const response = await handler(context);
      unset(context);
      return response;
    };
    return await fetched(pool, options, context, requestOf(raw, keys, body), run, restoring(context));
  };
}

/** Where a handler has set `res` Hono takes no other, and what is sent is made of its bytes. */
function unset(context: HonoContext): void {
  if (context.finalized) {
    context.res = undefined;
    context.finalized = false;
  }
}

/** What puts back the status and the headers that a context has now: those that a handler sets are its run's own. */
function restoring(context: HonoContext): () => void {
  // To ask for `res` would make one, and Hono puts the headers of that into what a handler returns.
  const { status, headers } = context.newResponse(null);
  const before = Array.from(headers);
  return () => {
    unset(context);
    context.status(status as never);
    for (const name of new Set(context.newResponse(null).headers.keys())) {
      context.header(name);
    }
    for (const [name, value] of before) {
      context.header(name, value, { append: true });
    }
  };
}

async function fetched<Tx, Incoming>(
  pool: Source<Tx>,
  options: HttpOptions<Incoming>,
  incoming: Incoming,
  request: HttpRequest,
  handler: () => Promise<Response>,
  restore: () => void = () => undefined,
): Promise<Response> {
  const limit = options.maxResponseBytes ?? MEBIBYTE;
  let last: Buffered | undefined;
  // What a run has left that is not sent.
  const forget = (): void => {
    restore();
    last?.rest?.cancel().catch(() => undefined);
    last = undefined;
  };
  try {
    const exchanged: Exchanged<Buffered> = await exchange(pool, options, incoming, request, async () => {
      forget();
      last = await buffered(await handler(), limit);
      return last;
    });
    if ("ran" in exchanged) {
      return sent(exchanged.ran);
    }
    forget();
    return responseOf(exchanged.instead);
  } catch (error) {
    forget();
    throw error;
  }
}

/** The standard joins headers of one name with commas. Within the quotes of a String a comma is the key's own; whether there is more behind a String the server finds out. */
function keysOf(headers: Headers): string[] {
  const key = headers.get("idempotency-key");
  if (key === null) {
    return [];
  }
  return key.startsWith('"') ? [key] : key.split(",");
}

function requestOf(request: Request, keys: string[], body: Uint8Array): HttpRequest {
  const { pathname, search } = new URL(request.url);
  return { method: request.method, target: pathname + search, contentType: request.headers.get("content-type"), keys, body };
}

async function bodyOf(request: Request, limit: number): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const { bytes, rest } = await readUpTo(request.body, limit);
  if (rest !== undefined) {
    rest.cancel().catch(() => undefined);
    return undefined;
  }
  return bytes;
}

/** The whole of a stream; where it is longer than `limit`, what has been read of it, and its reader. */
async function readUpTo(
  stream: ReadableStream<Uint8Array> | null,
  limit: number,
): Promise<{ bytes: Uint8Array<ArrayBuffer>; rest: ReadableStreamDefaultReader<Uint8Array> | undefined }> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  const reader = stream?.getReader();
  while (reader !== undefined) {
    const { done, value } = await reader.read();
    if (done) {
      break;
    }
    chunks.push(value);
    length += value.byteLength;
    if (length > limit) {
      return { bytes: joined(chunks), rest: reader };
    }
  }
  return { bytes: joined(chunks), rest: undefined };
}

function joined(chunks: Uint8Array[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.concat(chunks));
}

async function buffered(response: Response, limit: number): Promise<Buffered> {
  const { status } = response;
  const headers: Header[] = Array.from(response.headers);
  if (response.body !== null && isEndless(response.headers.get("content-type"))) {
    return { response, status, headers, body: new Uint8Array(), isWhole: false, rest: response.body.getReader() };
  }
  const { bytes, rest } = await readUpTo(response.body, limit);
  return { response, status, headers, body: bytes, isWhole: rest === undefined, rest };
}

/** Events come for as long as somebody listens: there is no end to wait for. */
export function isEndless(contentType: string | null): boolean {
  return contentType !== null && /^text\/event-stream\b/i.test(contentType);
}

/** The handler's own response, with the bytes that were kept back. */
function sent({ response, body, rest }: Buffered): Response {
  const { status, statusText, headers } = response;
  if (rest === undefined) {
    return new Response(response.body === null ? null : (body as Uint8Array<ArrayBuffer>), { status, statusText, headers });
  }
  const stream = new ReadableStream<Uint8Array>({
    start(controller) {
      if (body.byteLength > 0) {
        controller.enqueue(body);
      }
    },
    async pull(controller) {
      const { done, value } = await rest.read();
      if (done) {
        controller.close();
      } else {
        controller.enqueue(value);
      }
    },
    async cancel(reason) {
      await rest.cancel(reason);
    },
  });
  return new Response(stream, { status, statusText, headers });
}

const WITHOUT_BODY = new Set([101, 103, 204, 205, 304]);

function responseOf({ status, headers, body }: { status: number; headers: Header[]; body: Uint8Array }): Response {
  return new Response(WITHOUT_BODY.has(status) ? null : new Uint8Array(body), { status, headers });
}
