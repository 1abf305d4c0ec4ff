/** One HTTP request under an idempotency key, whatever the framework: claim, handler, complete, COMMIT, and only then the first byte. */
import { randomUUID } from "node:crypto";
import { type Observe, type Result, parsed, resultOf } from "../core/call.js";
import { refuseNested, within } from "../core/context.js";
import type { Cell, Database, Isolation, Session } from "../core/database.js";
import { LeaseLost, Unavailable, sqlstate } from "../core/errors.js";
import { Busy, type Limits, persist } from "../core/retry.js";
import { HTTP_CLAIM, HTTP_COMPLETE, HTTP_COMPLETE_UNKEPT, RELEASE, REPLAY, interval } from "../core/sql.js";
import { type Source, databaseOf } from "../drivers/pg.js";
import { type Lease, hold } from "../lease/hold.js";
import { LEASE } from "../lease/lease.js";
import { type Header, misrouted, tooMany, unavailable } from "./problem.js";

/** What an adapter is told. `Incoming` is the framework's own request. */
export interface HttpOptions<Incoming> extends Limits {
  /** The operation, such as the template of the route; never the raw path. */
  operation: string | ((request: Incoming) => string);
  /** Whose key it is: what authentication, outside of this, has established. `null` says that there is one tenant; a function that returns none throws. */
  scope: string | null | ((request: Incoming) => string);
  /** Whether a request without a key is refused with 400; else it passes through, outside of any transaction. */
  required?: boolean;
  /** `transaction`: the handler runs in the transaction that holds the claim (`currentTransaction()`). `lease`: it holds a lease (`currentLease()`), for
   * handlers that call out. */
  mode?: "transaction" | "lease";
  /** Milliseconds that a lease lasts without a heartbeat; 30000 unless given. */
  lease?: number;
  /** Whether a handler that throws gives the key of its lease back, so that the next request runs at once: only if its exceptions mean that nothing was done. Else the
   * lease lapses. */
  releaseOnError?: boolean;
  isolation?: Isolation;
  /** POST and PATCH unless given; others pass through. */
  methods?: readonly string[];
  /** Bytes of a request's body that are read; a longer one is answered 413. 1 MiB unless given. */
  maxRequestBytes?: number;
  /** Bytes of an answer that are kept back until COMMIT; a longer one is completed without its body and streamed. The
   * operation's `max_response_bytes` may not be larger. 1 MiB unless given. */
  maxResponseBytes?: number;
  /** False for an answer that is not to be stored: what the handler wrote is rolled back, and the next attempt runs. */
  store?: (answer: { status: number; headers: readonly Header[] }) => boolean;
  observe?: Observe;
}

export const MEBIBYTE = 1024 * 1024;

/** The request, as far as it counts. */
export interface HttpRequest {
  method: string;
  target: string;
  contentType: string | null;
  keys: readonly string[];
  body: Uint8Array;
}

/** What a handler has answered; `rest`: it is too large to keep, or has no end, and is streamed after COMMIT. */
export interface HttpAnswer {
  status: number;
  headers: Header[];
  body: Uint8Array;
  isWhole: boolean;
}

/** What is sent in place of running the handler. */
export interface Instead {
  status: number;
  headers: Header[];
  body: Uint8Array;
}

export type Exchanged<Ran extends HttpAnswer> = { ran: Ran } | { instead: Instead };

/** Whether a request goes through this at all. */
export function applies<Incoming>(options: HttpOptions<Incoming>, method: string, keys: readonly string[]): boolean {
  return (options.methods ?? ["POST", "PATCH"]).includes(method.toUpperCase()) && (keys.length > 0 || options.required === true);
}

export function isMultipart(contentType: string | null): boolean {
  return contentType !== null && /^\s*multipart\//i.test(contentType);
}

/** A parser that takes files out of a body puts them beside it, or on a disk: with another file it would be the same request. */
export function takenApart(): TypeError {
  return new TypeError("a parser has taken the request's body apart, and what it put elsewhere would not count: parse it within the handler, or keep its bytes as rawBody");
}

interface Claimed {
  run: boolean;
  key: string | null;
  fence: string | null;
  outcome: string;
  instead: Instead;
}

/** An answer that is not stored: what its handler wrote is undone. */
class Undone<Ran> extends Error {
  readonly ran: Ran;

  constructor(ran: Ran) {
    super("the answer is not stored");
    this.ran = ran;
  }
}

/** Runs the handler at most once for a key, or tells what to send. It runs again, in a new transaction, after a conflict or a lost connection. */
export async function exchange<Tx, Incoming, Ran extends HttpAnswer>(
  pool: Source<Tx>,
  options: HttpOptions<Incoming>,
  incoming: Incoming,
  request: HttpRequest,
  handler: () => Promise<Ran>,
): Promise<Exchanged<Ran>> {
  if (request.keys.length > 1) {
    return { instead: tooMany() };
  }
  const database = databaseOf(pool);
  refuseNested(database);
  const call = new HttpCall(options, incoming, request);
  try {
    return await (options.mode === "lease" ? leased(database, call, handler) : transacted(database, call, handler));
  } catch (error) {
    if (error instanceof Unavailable || error instanceof LeaseLost) {
      return { instead: unavailable() };
    }
    if (error instanceof Elsewhere) {
      return { instead: misrouted() };
    }
    throw error;
  }
}

/** The key of the request is another node's. */
class Elsewhere extends Error {}

class HttpCall<Incoming> {
  readonly options: HttpOptions<Incoming>;
  readonly request: HttpRequest;
  readonly operation: string;
  readonly scope: string;
  /** A claim of a lease that is asked again, because the answer to its COMMIT was lost, gets its own lease. */
  readonly attemptId = randomUUID();

  constructor(options: HttpOptions<Incoming>, incoming: Incoming, request: HttpRequest) {
    const { operation, scope } = options;
    this.options = options;
    this.request = request;
    this.operation = typeof operation === "function" ? operation(incoming) : operation;
    this.scope = scope === null ? "" : known(typeof scope === "function" ? scope(incoming) : scope);
  }

  async claim(session: Session<unknown>, lease: number | undefined): Promise<Claimed> {
    const { method, target, contentType, keys, body } = this.request;
    const rows = await session.query(HTTP_CLAIM, [
      this.operation, keys[0] ?? null, method, target, contentType, body, this.scope, interval(lease),
      lease === undefined ? null : this.attemptId,
    ]).catch((error: unknown) => {
      throw sqlstate(error) === "ID010" ? new Elsewhere("the key belongs to another node", { cause: error }) : error;
    });
    const [run, key, fence, outcome, status, headers, stored] = rows[0] ?? [];
    return {
      run: run === "true",
      key: key ?? null,
      fence: fence ?? null,
      outcome: outcome ?? "",
      instead: { status: Number(status), headers: headersOf(headers), body: Buffer.from(stored ?? "", "base64") },
    };
  }

  /** Whether the answer is stored; else the key is free again. */
  async complete(session: Session<unknown>, claimed: Claimed, answer: HttpAnswer): Promise<boolean> {
    const { operation, scope, options } = this;
    const body = answer.isWhole ? answer.body : ((options.maxResponseBytes ?? MEBIBYTE) + 1).toString();
    const rows = await session.query(answer.isWhole ? HTTP_COMPLETE : HTTP_COMPLETE_UNKEPT, [
      operation, claimed.key, answer.status.toString(), JSON.stringify(answer.headers), body, scope, claimed.fence,
    ]);
    const isStored = rows[0]?.[0] === "true";
    if (isStored && !answer.isWhole && !(await this.record(session, claimed)).evicted) {
      throw new Error("the operation's max_response_bytes is above the adapter's maxResponseBytes, so that blanks would be replayed: make them equal");
    }
    return isStored;
  }

  isKept(answer: HttpAnswer): boolean {
    return this.options.store?.(answer) ?? true;
  }

  /** Gives the key of a lease back; as an answer, it is none that is stored. */
  async release(session: Session<unknown>, { key, fence }: Claimed): Promise<false> {
    await session.query(RELEASE, [this.operation, key, this.scope, fence]);
    return false;
  }

  /** What the server has of the key. */
  async record(session: Session<unknown>, claimed: Claimed): Promise<Result> {
    return resultOf(await session.query(REPLAY, [this.operation, claimed.key, this.scope]));
  }

  observed({ outcome }: Claimed, attempt?: number): void {
    const mode = this.options.mode ?? "transaction";
    this.options.observe?.({ operation: this.operation, mode, outcome, attempt, replayed: outcome === "replay" });
  }

  /** What a claim that is none is answered; `Busy` where another attempt holds the key. */
  refused<Ran extends HttpAnswer>(claimed: Claimed): Exchanged<Ran> | Busy<Exchanged<Ran>> {
    const answered = (): Exchanged<Ran> => {
      this.observed(claimed);
      return { instead: claimed.instead };
    };
    return claimed.outcome === "in_progress" ? new Busy(answered) : answered();
  }
}

/** Callers in JavaScript can forget it, and a function can find nobody: all of those would share their keys, and be told each other's answers. */
function known(scope: string | null | undefined): string {
  if (scope === null || scope === undefined) {
    throw new TypeError("scope is required: whose key is it? Pass scope: null if there is one tenant only");
  }
  return scope;
}

function headersOf(cell: Cell | undefined): Header[] {
  return (parsed(cell) ?? []) as Header[];
}

async function transacted<Tx, Incoming, Ran extends HttpAnswer>(
  database: Database<Tx>,
  call: HttpCall<Incoming>,
  handler: () => Promise<Ran>,
): Promise<Exchanged<Ran>> {
  return await persist<Exchanged<Ran>>(call.options, async () => {
    try {
      return await database.transaction(async (session) => {
        const claimed = await call.claim(session, undefined);
        if (!claimed.run) {
          return call.refused<Ran>(claimed);
        }
        call.observed(claimed);
        const ran = await within(database, session.tx, handler);
        if (!(await completed(session, call, claimed, ran))) {
          throw new Undone(ran);
        }
        return { ran };
      }, call.options.isolation);
    } catch (error) {
      if (error instanceof Undone) {
        return { ran: error.ran as Ran };
      }
      throw error;
    }
  });
}

const IN_FAILED_TRANSACTION = "25P02";

async function completed<Incoming>(session: Session<unknown>, call: HttpCall<Incoming>, claimed: Claimed, ran: HttpAnswer): Promise<boolean> {
  try {
    if (claimed.key === null) {
      // Where the operation is only observed, a request may run whose header names no key: there is nothing to complete.
      await session.query("SELECT", []);
      return ran.status < 500;
    }
    return call.isKept(ran) && (await call.complete(session, claimed, ran));
  } catch (error) {
    // The handler has caught an error of a statement and answered with one of its own: nothing of it can be stored, and the next attempt runs.
    if (ran.status >= 400 && sqlstate(error) === IN_FAILED_TRANSACTION) {
      return false;
    }
    throw error;
  }
}

/** A claim with a lease, and what an earlier holder left. */
interface Taken {
  claimed: Claimed;
  attempt: number | undefined;
  checkpoint: unknown;
}

async function take<Incoming>(session: Session<unknown>, call: HttpCall<Incoming>, lease: number): Promise<Taken> {
  const claimed = await call.claim(session, lease);
  if (claimed.fence === null) {
    return { claimed, attempt: undefined, checkpoint: null };
  }
  // The claim does not tell of the holders before.
  const { attempt, checkpoint } = await call.record(session, claimed);
  return { claimed, attempt, checkpoint };
}

async function leased<Incoming, Ran extends HttpAnswer>(
  database: Database<unknown>,
  call: HttpCall<Incoming>,
  handler: () => Promise<Ran>,
): Promise<Exchanged<Ran>> {
  const { options, operation, scope } = call;
  const lease = options.lease ?? LEASE;
  let since = 0;
  const taken = await persist<Taken | Exchanged<Ran>>(options, async () => {
    since = performance.now();
    const found = await database.transaction((session) => take(session, call, lease));
    return found.claimed.run ? found : call.refused<Ran>(found.claimed);
  });
  if (!("claimed" in taken)) {
    return taken;
  }
  const { claimed, attempt, checkpoint } = taken;
  const { key, fence } = claimed;
  call.observed(claimed, attempt);
  if (key === null || fence === null) {
    // Where the operation is only observed, a request may run whose header names no key.
    return { ran: await handler() };
  }
  const held = { identity: { operation, key, scope }, fence, lease, attempt: attempt ?? 1, checkpoint, since };
  const releasing = async (own: Lease): Promise<Ran> => {
    try {
      return await handler();
    } catch (error) {
      if (options.releaseOnError === true && !own.signal.aborted) {
        // What the handler has thrown matters more than that the key stays taken until the lease lapses.
        await own.release().catch(() => undefined);
      }
      throw error;
    }
  };
  const ran = await hold(database, options, held, releasing, async (made) => {
    await store(database, call, claimed, made);
    return made;
  });
  return { ran };
}

/** Stores the answer of a lease, or gives the key back. */
async function store<Incoming>(database: Database<unknown>, call: HttpCall<Incoming>, claimed: Claimed, made: HttpAnswer): Promise<void> {
  // What a try has come to, if the answer to its COMMIT was lost.
  let isStored: boolean | undefined;
  await persist<undefined>(call.options, async () => {
    try {
      await database.transaction(async (session) => {
        isStored = await (call.isKept(made) ? call.complete(session, claimed, made) : call.release(session, claimed));
      });
    } catch (error) {
      const state = sqlstate(error);
      if (state !== "ID003" && state !== "ID007") {
        throw error;
      }
      if (isStored === undefined || (isStored && !(await isOwn(database, call, claimed)))) {
        throw state === "ID003" ? new LeaseLost({ cause: error }) : error;
      }
    }
    return undefined;
  });
}

/** Whether the stored answer is this attempt's. */
async function isOwn<Incoming>(database: Database<unknown>, call: HttpCall<Incoming>, claimed: Claimed): Promise<boolean> {
  const { outcome, fence } = await database.transaction((session) => call.record(session, claimed));
  return outcome === "replay" && fence === claimed.fence;
}
