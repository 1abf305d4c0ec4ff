/** A lease while its handler runs: heartbeat, signal, and what the handler can do with it. */
import { AsyncLocalStorage } from "node:async_hooks";
import type { Identity } from "../core/call.js";
import type { Database } from "../core/database.js";
import { LeaseLost, sqlstate } from "../core/errors.js";
import { type Limits, persist } from "../core/retry.js";
import { CHECKPOINT, DERIVE_KEY, RELEASE, json } from "../core/sql.js";
import { keepAlive } from "./heartbeat.js";

/** What a handler knows of its lease. */
export interface Lease {
  /** Aborted when the lease is lost: stop, and start nothing else. */
  readonly signal: AbortSignal;
  /** Grows with every lease, over all keys. Send it along with what is written elsewhere, and let the other side refuse a lower one than it has seen. */
  readonly fence: bigint;
  /** Above 1: an earlier lease lapsed, and nobody knows how far its holder came. */
  readonly attempt: number;
  /** What an earlier holder left with `save`. */
  readonly checkpoint: unknown;
  /** The key for a call to another system: the same in every attempt. */
  readonly derive: (label: string) => Promise<string>;
  /** Leaves a note for the attempt that would take over. */
  readonly save: (checkpoint: unknown) => Promise<void>;
  /** Gives the key back, so that the next attempt runs at once: only for work that was not begun. Throw afterwards. */
  readonly release: () => Promise<void>;
}

export interface Held {
  identity: Identity;
  fence: string;
  lease: number;
  attempt: number;
  checkpoint: unknown;
  /** When the claim was sent, of `performance.now()`. */
  since: number;
}

const leases = new AsyncLocalStorage<Lease>();

/** The lease that the running handler holds; undefined outside of one. */
export function currentLease(): Lease | undefined {
  return leases.getStore();
}

/** Runs the handler under a heartbeat, which goes on until `store` has stored its answer. A handler that throws leaves the lease to lapse, because the work may
 * have been done; `release` is for when it was not. */
export async function hold<Made, Stored>(
  database: Database<unknown>,
  limits: Limits,
  held: Held,
  handler: (lease: Lease) => Promise<Made>,
  store: (made: Made) => Promise<Stored>,
): Promise<Stored> {
  const { identity, fence } = held;
  const scope = identity.scope ?? "";
  const lost = new AbortController();
  let isOver = false;
  const stop = keepAlive(database, { ...identity, scope, fence, lease: held.lease, since: held.since }, (failure) => {
    // A heartbeat that crosses with the answer finds no lease any more.
    if (!isOver) {
      lost.abort(new LeaseLost(failure === undefined ? {} : { cause: failure }));
    }
  });
  const ask = (statement: string, values: (string | null)[]): Promise<string | null> =>
    persist<string | null>(limits, () => database.transaction(async (session) => (await session.query(statement, values))[0]?.[0] ?? null));
  const lease: Lease = {
    signal: lost.signal,
    fence: BigInt(fence),
    attempt: held.attempt,
    checkpoint: held.checkpoint,
    derive: async (label) => String(await ask(DERIVE_KEY, [identity.operation, identity.key, label, scope])),
    save: async (checkpoint) => {
      await ask(CHECKPOINT, [identity.operation, identity.key, json(checkpoint), scope, fence]);
    },
    release: async () => {
      await ask(RELEASE, [identity.operation, identity.key, scope, fence]);
      isOver = true;
      stop();
    },
  };
  try {
    const made = await leases.run(lease, async () => await handler(lease)).catch((error: unknown) => {
      if (lost.signal.aborted || sqlstate(error) === "ID003") {
        throw error instanceof LeaseLost ? error : (reasonOf(lost.signal) ?? new LeaseLost({ cause: error }));
      }
      throw error;
    });
    lost.signal.throwIfAborted();
    isOver = true;
    return await store(made);
  } finally {
    stop();
  }
}

/** The loss, where it says which heartbeat failed: that tells more than what the handler has thrown because of it. */
function reasonOf({ reason }: AbortSignal): LeaseLost | undefined {
  return reason instanceof LeaseLost && reason.cause !== undefined ? reason : undefined;
}
