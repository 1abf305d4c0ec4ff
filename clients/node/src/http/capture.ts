/** Keeps back what a handler writes to a response of Node's HTTP server: no byte leaves before COMMIT, and a handler that runs again begins anew. */
import type { OutgoingHttpHeader, ServerResponse } from "node:http";
import type { HttpAnswer } from "./exchange.js";
import { isEndless } from "./fetch.js";
import type { Header } from "./problem.js";

/** What is replaced on the response. */
const REPLACED = ["write", "end", "writeHead", "flushHeaders", "emit", "headersSent", "writableEnded"] as const;

type Method = (...values: unknown[]) => unknown;
type Methods = Readonly<Record<"write" | "end" | "writeHead" | "flushHeaders" | "emit", Method>>;

export class Capture {
  readonly #response: ServerResponse;
  readonly #limit: number;
  readonly #originals: ReadonlyMap<string, PropertyDescriptor | undefined>;
  readonly #methods: Methods;
  readonly #before: ReadonlyMap<string, OutgoingHttpHeader>;
  readonly #statusBefore: number;
  #run = 0;
  #chunks: Uint8Array[] = [];
  #length = 0;
  #hasHead = false;
  #hasEnded = false;
  #hasClosed = false;
  #isReleased = false;
  #resolve: (answer: HttpAnswer) => void = () => undefined;

  constructor(response: ServerResponse, limit: number) {
    this.#response = response;
    this.#limit = limit;
    this.#originals = new Map(REPLACED.map((name) => [name, Object.getOwnPropertyDescriptor(response, name)]));
    const bound = (name: keyof ServerResponse): Method => (response[name] as Method).bind(response);
    this.#methods = { write: bound("write"), end: bound("end"), writeHead: bound("writeHead"), flushHeaders: bound("flushHeaders"), emit: bound("emit") };
    this.#before = headersOf(response);
    this.#statusBefore = response.statusCode;
  }

  /** Whether the client has gone. */
  get isClosed(): boolean {
    return this.#hasClosed;
  }

  /** Holds the response back; resolves with the answer once it is whole, or once it is clear that it is too large to keep. What an earlier run wrote is gone. */
  begin(onClose: () => void): Promise<HttpAnswer> {
    this.restore();
    const run = this.#run;
    const response = this.#response;
    // Whatever has been laid over these stays where it is, and comes back here: after the release they hand on, and an earlier run's are deaf.
    const replaced = (name: keyof Methods, held: (...values: unknown[]) => unknown): PropertyDescriptor => ({
      configurable: true,
      writable: true,
      value: (...values: unknown[]): unknown => (run !== this.#run ? response : this.#isReleased ? this.#methods[name](...values) : held(...values)),
    });
    const read = (name: "headersSent" | "writableEnded", held: () => boolean): PropertyDescriptor => ({
      configurable: true,
      get: () => (this.#isReleased ? (Reflect.get(Object.getPrototypeOf(response) as object, name, response) as unknown) : held()),
    });
    Object.defineProperties(response, {
      write: replaced("write", (...values) => {
        this.#write(values);
        return true;
      }),
      end: replaced("end", (...values) => {
        this.#write(values);
        this.#hasEnded = true;
        this.#settle();
        return response;
      }),
      writeHead: replaced("writeHead", (...values) => {
        this.#writeHead(values);
        return response;
      }),
      flushHeaders: replaced("flushHeaders", () => {
        this.#hasHead = true;
        this.#settle();
      }),
      // A stream that is piped into the response stops when it hears that the client has gone.
      emit: replaced("emit", (event, ...values) => {
        if (event !== "close") {
          return this.#methods.emit(event, ...values);
        }
        this.#hasClosed = true;
        onClose();
        return true;
      }),
      headersSent: read("headersSent", () => this.#hasHead),
      writableEnded: read("writableEnded", () => this.#hasEnded),
    });
    return new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  /** Lets the response go as it was before the handler, with nothing written. */
  restore(): void {
    const response = this.#response;
    this.#run += 1;
    for (const name of REPLACED) {
      const original = this.#originals.get(name);
      if (original === undefined) {
        Reflect.deleteProperty(response, name);
      } else {
        Object.defineProperty(response, name, original);
      }
    }
    for (const name of response.getHeaderNames()) {
      if (!this.#before.has(name)) {
        response.removeHeader(name);
      }
    }
    for (const [name, value] of this.#before) {
      response.setHeader(name, value);
    }
    response.statusCode = this.#statusBefore;
    this.#chunks = [];
    this.#length = 0;
    this.#hasHead = this.#hasEnded = false;
  }

  /** Sends what was kept back; from now on everything goes straight to the client. */
  release(): void {
    this.#isReleased = true;
    const body = Buffer.concat(this.#chunks);
    this.#chunks = [];
    if (this.#hasEnded) {
      this.#methods.end(body);
    } else if (body.byteLength > 0) {
      this.#methods.write(body);
    } else {
      this.#methods.flushHeaders();
    }
    if (this.#hasClosed) {
      this.#methods.emit("close");
    }
  }

  /** `write(chunk, encoding, callback)`, or some of these. */
  #write(values: unknown[]): void {
    this.#hasHead = true;
    const [chunk, encoding] = values;
    if (typeof chunk === "string") {
      this.#add(Buffer.from(chunk, typeof encoding === "string" ? (encoding as BufferEncoding) : "utf8"));
    } else if (chunk instanceof Uint8Array) {
      this.#add(chunk);
    }
    const callback = values.find((value) => typeof value === "function");
    if (callback !== undefined) {
      process.nextTick(callback);
    }
    this.#settle();
  }

  #add(chunk: Uint8Array): void {
    // The handler may use its buffer again.
    this.#chunks.push(Buffer.from(chunk));
    this.#length += chunk.byteLength;
  }

  /** `writeHead(status, message, headers)`, or without the message. */
  #writeHead([status, ...more]: unknown[]): void {
    const response = this.#response;
    this.#hasHead = true;
    response.statusCode = status as number;
    if (typeof more[0] === "string") {
      response.statusMessage = more[0];
    }
    const headers = more.find((value) => typeof value === "object" && value !== null);
    for (const [name, value] of pairsOf(headers)) {
      response.setHeader(name, value);
    }
  }

  #settle(): void {
    const contentType = this.#response.getHeader("content-type");
    const isTooLarge = this.#length > this.#limit || isEndless(contentType === undefined ? null : String(contentType));
    if (this.#hasEnded || isTooLarge) {
      this.#resolve({ status: this.#response.statusCode, headers: this.#headers(), body: Buffer.concat(this.#chunks), isWhole: !isTooLarge });
    }
  }

  /** Those that the handler has set; what was there before belongs to the exchange, and is set anew for a replay. */
  #headers(): Header[] {
    const response = this.#response;
    // Which keeps the spelling; @types/node knows it of requests only.
    const names = (response as unknown as { getRawHeaderNames(): string[] }).getRawHeaderNames();
    return names.flatMap((name) => {
      const value = response.getHeader(name);
      const before = this.#before.get(name.toLowerCase());
      return value === undefined || JSON.stringify(value) === JSON.stringify(before) ? [] : [value].flat().map((one): Header => [name, String(one)]);
    });
  }
}

function headersOf(response: ServerResponse): Map<string, OutgoingHttpHeader> {
  return new Map(Object.entries(response.getHeaders()).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])));
}

/** Headers as an object, as pairs, or as names and values in turn. */
function pairsOf(headers: unknown): [string, OutgoingHttpHeader][] {
  if (!Array.isArray(headers)) {
    return Object.entries((headers ?? {}) as Record<string, OutgoingHttpHeader>);
  }
  const flat = headers.flat() as string[];
  const merged = new Map<string, string[]>();
  for (let at = 0; at + 1 < flat.length; at += 2) {
    const name = flat[at] ?? "";
    merged.set(name, [...(merged.get(name) ?? []), String(flat[at + 1])]);
  }
  return Array.from(merged);
}
