/** postgres.js: `once(fromPostgres(sql), ...)`. */
import postgres from "postgres";
import type { Sql, TransactionSql } from "postgres";
import { type Cell, ConnectionLost, type Database, type Isolation, type OwnConnection, type Parameter, type Session, guarded } from "../core/database.js";

const databases = new WeakMap<Sql, Database<TransactionSql>>();

/** The database that `sql` reaches; the same object for the same `sql`. */
export function fromPostgres(sql: Sql): Database<TransactionSql> {
  let database = databases.get(sql);
  if (database === undefined) {
    database = new PostgresDatabase(sql);
    databases.set(sql, database);
  }
  return database;
}

const LOST = /^(CONNECTION_|CONNECT_TIMEOUT$|E[A-Z]{3,}$)/;

/** Whether the driver says that the connection is to blame: its own codes, and those of the system with a number or an address. */
function isLost(error: unknown): boolean {
  const { code, severity } = error as { code?: unknown; severity?: unknown };
  return severity === undefined && typeof code === "string" && LOST.test(code);
}

/** As arrays: the names of columns may be transformed. */
async function query(sql: Sql | TransactionSql, text: string, parameters: readonly Parameter[]): Promise<Cell[][]> {
  const rows = await sql.unsafe(text, parameters as (string | null)[]).values();
  return rows.map((row) => row as Cell[]);
}

class PostgresDatabase implements Database<TransactionSql> {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  async transaction<T>(work: (session: Session<TransactionSql>) => Promise<T>, isolation?: Isolation): Promise<T> {
    let isOpen = true;
    let working: Promise<T> | undefined;
    // What the handler throws is the handler's, even if it looks like a lost connection to somewhere else.
    let thrown: unknown;
    try {
      // In an object, because an array would be taken for statements to wait for.
      const { result } = (await this.#sql.begin<{ result: T }>(isolation === undefined ? "" : `isolation level ${isolation}`, async (own) => {
        const tx = guarded(own, () => isOpen);
        working = work({ tx, query: (text, parameters) => query(tx, text, parameters) });
        let result: T;
        try {
          result = await working;
        } catch (error) {
          thrown = error;
          if (isOver(error) || !isOpen) {
            return await onClose();
          }
          throw error;
        }
        return isOpen ? { result } : await onClose();
      }));
      return result;
    } catch (error) {
      isOpen = false;
      // It may still be at work when the connection breaks; two runs of a handler do not overlap.
      await working?.catch(() => undefined);
      throw isLost(error) && (error !== thrown || isOver(error)) ? new ConnectionLost(error) : error;
    } finally {
      isOpen = false;
    }
  }

  connect(): OwnConnection {
    // Without the driver's own question for types: a connection that is closed meanwhile lets it fail where nothing can catch it.
    const own = postgres({ ...this.#sql.options, max: 1, fetch_types: false } as unknown as postgres.Options<Record<string, never>>);
    return {
      query: (text, parameters) => query(own, text, parameters),
      close: () => {
        own.end({ timeout: 0 }).catch(() => undefined);
      },
    };
  }
}

/** Whether the connection is gone, or about to go: the driver's own words for that or a last error of the server, also where a layer above has wrapped them. */
function isOver(error: unknown): boolean {
  for (let found = error, depth = 0; found instanceof Error && depth < 8; found = found.cause, depth += 1) {
    const { code, severity } = found as { code?: unknown; severity?: unknown };
    if (severity === "FATAL" || severity === "PANIC" || String(code).startsWith("CONNECTION_")) {
      return true;
    }
  }
  return false;
}

/** Never: `begin` ends by itself when the connection closes. Before that it would write COMMIT or ROLLBACK to the closed connection, and the driver ends the process then. */
function onClose(): Promise<never> {
  return new Promise(() => undefined);
}
