/** node-postgres. */
import type { Socket } from "node:net";
import type { Client, ClientConfig, Pool, PoolClient } from "pg";
import { type Cell, ConnectionLost, type Database, type Isolation, type OwnConnection, type Parameter, type Session, guarded } from "../core/database.js";
import { sqlstate } from "../core/errors.js";

/** A pool of node-postgres, or what an adapter has made of another driver's. */
export type Source<Tx> = Database<Tx> | (PoolClient extends Tx ? Pool : never);

const databases = new WeakMap<Pool, Database<PoolClient>>();

export function databaseOf<Tx>(source: Source<Tx>): Database<Tx> {
  // Callers in JavaScript pass other things: a single client, what postgres.js makes, nothing.
  const found = source as unknown;
  if (typeof found !== "object" || found === null || !("transaction" in found || "totalCount" in found)) {
    throw new TypeError("not a pool: pass a Pool of pg, or fromPostgres(sql) of pg-idempotent/postgres");
  }
  if ("transaction" in source) {
    return source;
  }
  const pool: Pool = source;
  let database = databases.get(pool);
  if (database === undefined) {
    database = new PgDatabase(pool);
    databases.set(pool, database);
  }
  return database as unknown as Database<Tx>;
}

/** Columns as the text that the server sends, whatever parsers the application has set. */
const AS_TEXT = { getTypeParser: () => (value: unknown) => value };

async function query(client: PoolClient | Client, text: string, parameters: readonly Parameter[]): Promise<Cell[][]> {
  const values = parameters.map((value) => (value instanceof Uint8Array ? Buffer.from(value.buffer, value.byteOffset, value.byteLength) : value));
  const { rows } = await client.query<Cell[]>({ text, values, rowMode: "array", types: AS_TEXT });
  return rows;
}

/** An error of connecting, which is passing unless the server itself says what is wrong. */
function unreachable(error: unknown): unknown {
  return sqlstate(error) === undefined ? new ConnectionLost(error) : error;
}

/** What the driver's client in C has not, and the type does not tell. */
function streamOf(client: Client): Socket | undefined {
  return (client as unknown as { connection?: { stream: Socket } }).connection?.stream;
}

/** A pool's options, with the hook that it awaits for each connection. */
interface Hooked extends ClientConfig {
  onConnect?: (client: Client) => unknown;
}

/** Says goodbye and waits for nothing: a network that swallows everything never answers. Before there is a session nobody would hear it. */
function leave(client: Client, isConnected: boolean): void {
  const stream = streamOf(client);
  if (isConnected || stream === undefined) {
    client.end().catch(() => undefined);
    stream?.unref();
  } else {
    stream.destroy();
  }
}

class PgDatabase implements Database<PoolClient> {
  readonly #pool: Pool;

  constructor(pool: Pool) {
    this.#pool = pool;
  }

  async transaction<T>(work: (session: Session<PoolClient>) => Promise<T>, isolation?: Isolation): Promise<T> {
    const client = await this.#pool.connect().catch((error: unknown) => {
      throw unreachable(error);
    });
    let lost: unknown;
    let isOpen = true;
    const onError = (error: unknown): void => {
      lost ??= error;
    };
    // Without a listener a connection that breaks ends the process.
    client.on("error", onError);
    const tx = guarded(client, () => isOpen);
    try {
      await client.query(isolation === undefined ? "BEGIN" : `BEGIN ISOLATION LEVEL ${isolation}`).catch((error: unknown) => {
        throw unreachable(error);
      });
      const result = await work({ tx, query: (text, parameters) => query(client, text, parameters) });
      isOpen = false;
      const { command } = await client.query("COMMIT").catch((error: unknown) => {
        throw unreachable(error);
      });
      if (command !== "COMMIT") {
        throw new Error("the transaction was rolled back: a statement had failed before, and the handler went on");
      }
      return result;
    } catch (error) {
      isOpen = false;
      if (lost === undefined) {
        await client.query("ROLLBACK").catch((failure: unknown) => {
          lost ??= failure;
        });
      }
      throw lost === undefined || error instanceof ConnectionLost || sqlstate(error) !== undefined ? error : new ConnectionLost(error);
    } finally {
      client.off("error", onError);
      client.release(lost === undefined ? undefined : true);
    }
  }

  connect(): OwnConnection {
    // As the pool makes its own.
    const { Client: Own, options } = this.#pool as unknown as { Client: new (config: ClientConfig) => Client; options: Hooked };
    const client = new Own(options);
    client.on("error", () => undefined);
    let connecting: Promise<unknown> | undefined;
    let first: Promise<unknown> | undefined;
    let isConnected = false;
    const connect = async (): Promise<void> => {
      await client.connect();
      isConnected = true;
      // What these set, such as search_path or a role, the connection needs as much as any of the pool's.
      await options.onConnect?.(client);
      this.#pool.emit("connect", client);
    };
    const isHooked = options.onConnect !== undefined || this.#pool.listenerCount("connect") > 0;
    return {
      query: async (text, parameters) => {
        const asked = (connecting ??= connect()).then(() => query(client, text, parameters));
        first ??= asked.catch(() => undefined);
        return await asked;
      },
      close: () => {
        if (!isConnected || !isHooked) {
          leave(client, isConnected);
          return;
        }
        // A hook's own statements must not be cut: they would fail where nothing can catch that. They are done when one behind them is.
        streamOf(client)?.unref();
        void first?.then(() => client.query("")).catch(() => undefined).then(() => {
          leave(client, true);
          this.#pool.emit("remove", client);
        });
      },
    };
  }
}
