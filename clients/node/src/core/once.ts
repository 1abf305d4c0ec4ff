/** A claim held by the transaction that does the work: claim, work and answer commit together, or not at all. */
import type { Pool, PoolClient } from "pg";
import { databaseOf, type Source } from "../drivers/pg.js";
import { type Answer, type Answered, type Call, type Result, answerOf, checkIdentity, parsed, replayOf, resultOf } from "./call.js";
import { refuseNested, within } from "./context.js";
import type { Database, Isolation, Session } from "./database.js";
import { errorOf, translated } from "./errors.js";
import { Busy, persist } from "./retry.js";
import { CLAIM, COMPLETE, FAIL, interval, json } from "./sql.js";

export interface OnceCall extends Call {
  isolation?: Isolation | undefined;
}

/** Does the work of a key once; every call gets the same answer. The handler runs again after a serialization failure, a deadlock or a lost connection, each time in a new transaction. */
export async function once<T>(pool: Pool, call: OnceCall, handler: (tx: PoolClient) => Promise<T | Answer<T>>): Promise<Answered<T>>;
export async function once<Tx, T>(pool: Source<Tx>, call: OnceCall, handler: (tx: Tx) => Promise<T | Answer<T>>): Promise<Answered<T>>;
export async function once<Tx, T>(pool: Source<Tx>, call: OnceCall, handler: (tx: Tx) => Promise<T | Answer<T>>): Promise<Answered<T>> {
  const database = databaseOf(pool);
  checkIdentity(call);
  refuseNested(database);
  return await persist<Answered<T>>(call, () => database.transaction((session) => attempt(database, session, call, handler), call.isolation));
}

async function attempt<Tx, T>(
  database: Database<Tx>,
  session: Session<Tx>,
  call: OnceCall,
  handler: (tx: Tx) => Promise<T | Answer<T>>,
): Promise<Answered<T> | Busy<Answered<T>>> {
  const result = await claim(session, call);
  const { outcome, retryAfter } = result;
  if (outcome === "in_progress") {
    return new Busy(() => {
      observed(call, result);
      throw errorOf(outcome, { retryAfter });
    });
  }
  observed(call, result);
  if (outcome === "replay") {
    return replayOf<T>(result);
  }
  if (outcome !== "claimed") {
    throw errorOf(outcome, { retryAfter });
  }
  const answer = answerOf(await within(database, session.tx, () => handler(session.tx)));
  return await finish(session, call, answer, result.fence);
}

function observed(call: Call, { outcome, attempt }: Result): void {
  call.observe?.({ operation: call.operation, mode: "transaction", outcome, attempt, replayed: outcome === "replay" });
}

/** Claims the key, without waiting for another holder. */
export async function claim(session: Session<unknown>, call: Call, lease?: { lease: number; attemptId: string }): Promise<Result> {
  const { operation, key, request, scope, firstSent } = call;
  try {
    return resultOf(await session.query(CLAIM, [
      operation, key, json(request), scope ?? "", interval(lease?.lease), firstSent?.toISOString() ?? null, lease?.attemptId ?? null,
    ]));
  } catch (error) {
    throw translated(error, call);
  }
}

/** Stores the answer, and returns what is stored. */
export async function finish<T>(session: Session<unknown>, call: Call, answer: Answer<T>, fence: string | null): Promise<Answered<T>> {
  const { operation, key, scope, ttl } = call;
  const { status, headers } = answer.facts;
  const rows = await session.query(answer.failed ? FAIL : COMPLETE, [
    operation, key, json(answer.value), status?.toString() ?? null, scope ?? "", fence, json(headers), interval(ttl),
  ]);
  const stored = parsed(rows[0]?.[0]) as T;
  return { answer: stored, replayed: false, failed: answer.failed, status: status ?? null, headers: headers ?? null, evicted: false };
}
