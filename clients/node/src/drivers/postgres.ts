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
    // What the handler throws is the handler's, even if it looks like a lost connection to somewhere else.
    let thrown: { error: unknown } | undefined;
    try {
      // In an object, because an array would be taken for statements to wait for.
      const { result } = (await this.#sql.begin(isolation === undefined ? "" : `isolation level ${isolation}`, async (own) => {
        const tx = guarded(own, () => isOpen);
        try {
          return { result: await work({ tx, query: (text, parameters) => query(own, text, parameters) }) };
        } catch (error) {
          thrown = { error };
          throw error;
        } finally {
          isOpen = false;
        }
      })) as { result: T };
      return result;
    } catch (error) {
      throw isLost(error) && !(thrown?.error === error && !isOfConnection(error)) ? new ConnectionLost(error) : error;
    } finally {
      isOpen = false;
    }
  }

  async connect(): Promise<OwnConnection> {
    const own = postgres({ ...this.#sql.options, max: 1 } as unknown as postgres.Options<Record<string, never>>);
    const close = (): void => {
      own.end({ timeout: 0 }).catch(() => undefined);
    };
    try {
      await own.unsafe("SELECT 1");
    } catch (error) {
      close();
      throw error;
    }
    return { query: (text, parameters) => query(own, text, parameters), close };
  }
}

/** The driver's own words for a connection that is gone, which no other library uses. */
function isOfConnection(error: unknown): boolean {
  return String((error as { code?: unknown }).code).startsWith("CONNECTION_");
}
