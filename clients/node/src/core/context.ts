/** The transaction or the lease that a handler runs in, for code that is called from far below it. */
import { AsyncLocalStorage } from "node:async_hooks";
import type { PoolClient } from "pg";
import type { Database } from "./database.js";

interface Frame {
  tx: unknown;
  database: unknown;
  isOpen: boolean;
}

const frames = new AsyncLocalStorage<Frame>();

/** The handle of the transaction that the running handler's claim is held by; undefined outside of one. */
export function currentTransaction<Tx = PoolClient>(): Tx | undefined {
  const frame = frames.getStore();
  return frame?.isOpen === true ? (frame.tx as Tx) : undefined;
}

/** Runs a handler with `tx` as the current transaction. */
export async function within<Tx, T>(database: Database<Tx>, tx: Tx, handler: () => Promise<T>): Promise<T> {
  const frame = { tx, database, isOpen: true };
  try {
    return await frames.run(frame, handler);
  } finally {
    frame.isOpen = false;
  }
}

/** A second connection while the first is held: with every connection of the pool held like that, all wait for each other. */
export function refuseNested(database: unknown): void {
  const frame = frames.getStore();
  if (frame?.isOpen === true && frame.database === database) {
    throw new Error("a call within a handler of the same pool would wait for a second connection while it holds one: do that work in the handler's own transaction");
  }
}
