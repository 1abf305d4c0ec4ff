/** For the tests of an application. */
import { randomUUID } from "node:crypto";
import type { Pool, PoolClient } from "pg";
import { CHECK } from "./core/sql.js";
import { type Source, databaseOf } from "./drivers/pg.js";

/** A scope that no other test has. */
export function freshScope(): string {
  return `test-${randomUUID()}`;
}

class TornDown<T> extends Error {
  readonly result: T;

  constructor(result: T) {
    super("rolled back after the test");
    this.result = result;
  }
}

/** Runs a test in a transaction that is rolled back, with a scope of its own; fails with ID009 where a COMMIT would, because a claim is still open. */
export async function rolledBack<T>(pool: Pool, test: (tx: PoolClient, scope: string) => Promise<T>): Promise<T>;
export async function rolledBack<Tx, T>(pool: Source<Tx>, test: (tx: Tx, scope: string) => Promise<T>): Promise<T>;
export async function rolledBack<Tx, T>(pool: Source<Tx>, test: (tx: Tx, scope: string) => Promise<T>): Promise<T> {
  try {
    return await databaseOf(pool).transaction<T>(async (session) => {
      const result = await test(session.tx, freshScope());
      await session.query(CHECK, []);
      throw new TornDown(result);
    });
  } catch (error) {
    if (error instanceof TornDown) {
      return error.result as T;
    }
    throw error;
  }
}

/** Makes a call several times at once, as clients do that lose patience: each on a connection of its own, so the pool needs as many. */
export async function duplicates<T>(times: number, call: () => Promise<T>): Promise<PromiseSettledResult<T>[]> {
  return await Promise.allSettled(Array.from({ length: times }, () => call()));
}
