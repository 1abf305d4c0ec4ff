/** A claim that outlives its transaction, for work outside of the database: no connection is held while the handler runs. */
import { randomUUID } from "node:crypto";
import type { Pool } from "pg";
import { type Answer, type Answered, type Call, type Result, answerOf, checkIdentity, replayOf, resultOf } from "../core/call.js";
import { refuseNested } from "../core/context.js";
import type { Database, Session } from "../core/database.js";
import { LeaseLost, errorOf, sqlstate } from "../core/errors.js";
import { claim, finish } from "../core/once.js";
import { Busy, persist } from "../core/retry.js";
import { REPLAY } from "../core/sql.js";
import { type Source, databaseOf } from "../drivers/pg.js";
import { type Lease, hold } from "./hold.js";

export { type Lease, currentLease } from "./hold.js";

export interface LeaseCall extends Call {
  /** Milliseconds that a claim lasts without a heartbeat; 30000 unless given. Extended every third of it while the handler runs. */
  lease?: number | undefined;
}

export const LEASE = 30_000;

/** Does the work of a key under a lease. When the lease is lost, `signal` is aborted and nothing is stored: the call throws `LeaseLost`. */
export async function withLease<T>(pool: Pool, call: LeaseCall, handler: (lease: Lease) => Promise<T | Answer<T>>): Promise<Answered<T>>;
export async function withLease<Tx, T>(pool: Source<Tx>, call: LeaseCall, handler: (lease: Lease) => Promise<T | Answer<T>>): Promise<Answered<T>>;
export async function withLease<Tx, T>(pool: Source<Tx>, call: LeaseCall, handler: (lease: Lease) => Promise<T | Answer<T>>): Promise<Answered<T>> {
  const database: Database<unknown> = databaseOf(pool);
  checkIdentity(call);
  refuseNested(database);
  const lease = call.lease ?? LEASE;
  const { result, since } = await take(database, call, lease);
  call.observe?.({ operation: call.operation, mode: "lease", outcome: result.outcome, attempt: result.attempt, replayed: result.outcome === "replay" });
  if (result.outcome === "replay") {
    return replayOf<T>(result);
  }
  if (result.outcome !== "claimed" || result.fence === null) {
    throw errorOf(result.outcome, { retryAfter: result.retryAfter });
  }
  const { fence, attempt, checkpoint } = result;
  const held = { identity: call, fence, lease, attempt: attempt ?? 1, checkpoint, since };
  return await hold(database, call, held, async (own) => answerOf(await handler(own)), (answer) => store(database, call, answer, fence));
}

/** Claims the key and commits that. The attempt's own id recognises it if the answer to COMMIT was lost. */
async function take(database: Database<unknown>, call: Call, lease: number): Promise<{ result: Result; since: number }> {
  const attemptId = randomUUID();
  return await persist<{ result: Result; since: number }>(call, async () => {
    const since = performance.now();
    const result = await database.transaction((session) => claim(session, call, { lease, attemptId }));
    const taken = { result, since };
    return result.outcome === "in_progress" ? new Busy(() => taken) : taken;
  });
}

async function store<T>(database: Database<unknown>, call: Call, answer: Answer<T>, fence: string): Promise<Answered<T>> {
  return await persist<Answered<T>>(call, async (before) => {
    try {
      return await database.transaction((session) => finish(session, call, answer, fence));
    } catch (error) {
      const state = sqlstate(error);
      const stored = before > 0 && (state === "ID003" || state === "ID007") ? await database.transaction((session) => storedBy(session, call, fence)) : undefined;
      if (stored !== undefined) {
        return { ...replayOf<T>(stored), replayed: false };
      }
      throw state === "ID003" ? new LeaseLost({ cause: error }) : error;
    }
  });
}

/** What an earlier try has stored, whose answer to COMMIT was lost. */
async function storedBy(session: Session<unknown>, call: Call, fence: string): Promise<Result | undefined> {
  const result = resultOf(await session.query(REPLAY, [call.operation, call.key, call.scope ?? ""]));
  return result.outcome === "replay" && result.fence === fence ? result : undefined;
}
