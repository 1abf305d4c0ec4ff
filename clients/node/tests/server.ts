/** The private server that the tests run on, and a door to it that fails as networks do. */
import { once as event } from "node:events";
import net from "node:net";
import { after } from "node:test";
import pg from "pg";
import postgres from "postgres";
import type { Database } from "pg-idempotent";
import { fromPostgres } from "pg-idempotent/postgres";

const { PGHOST = "/tmp", PGPORT = "5432" } = process.env;

const PATIENCE = 30_000; // milliseconds, for what the tests of a file have left open

// A connection or a timer that is left keeps the process alive, and who waits for it: that is a failure with a name, and not a file that never ends.
after(() => {
  setTimeout(() => {
    console.error(`${process.argv[1] ?? ""}: all tests have ended, and this keeps the process alive: ${process.getActiveResourcesInfo().join(", ")}`);
    process.exit(1);
  }, PATIENCE).unref();
});

/** A database of its own for a file of tests, with a table for effects. */
export async function freshDatabase(name: string): Promise<pg.Pool> {
  const server = new pg.Client();
  await server.connect();
  await server.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
  await server.query(`CREATE DATABASE ${name}`);
  await server.end();
  process.env["PGDATABASE"] = name;
  const admin = poolOf({ max: 4, application_name: "admin" });
  await admin.query("CREATE EXTENSION pg_idempotent");
  await admin.query("CREATE TABLE effect (id bigint GENERATED ALWAYS AS IDENTITY, key text, cents bigint)");
  return admin;
}

export function poolOf(config: pg.PoolConfig = {}): pg.Pool {
  const pool = new pg.Pool(config);
  pool.on("error", () => undefined);
  after(() => pool.end());
  return pool;
}

/** What a driver is asked for in the tests: a statement in the transaction that a handler gets. */
export interface Driver<Tx> {
  name: string;
  /** With so many connections, through another door if one is given. */
  open(max: number, port?: number): Database<Tx>;
  run(tx: Tx, text: string, values?: (string | number)[]): Promise<unknown[]>;
}

/** node-postgres is passed as its pool, which is what `once` takes. */
export const viaPg: Driver<pg.PoolClient> = {
  name: "pg",
  open: (max, port) => poolOf({ max, ...(port !== undefined && { host: "127.0.0.1", port }) }) as unknown as Database<pg.PoolClient>,
  run: async (tx, text, values = []) => (await tx.query<Record<string, unknown>>(text, values)).rows,
};

export const viaPostgres: Driver<postgres.TransactionSql> = {
  name: "postgres",
  open: (max, port) => {
    // Names of columns as an application may have them, and types that it has chosen.
    const sql = postgres({ max, transform: postgres.camel, onnotice: () => undefined, prepare: port === undefined, ...(port !== undefined && { host: "127.0.0.1", port }) });
    after(() => sql.end({ timeout: 1 }));
    return fromPostgres(sql);
  },
  run: async (tx, text, values = []) => await tx.unsafe(text, values),
};

/** Adds an effect for a key: what must be there once. */
export async function effect<Tx>(driver: Driver<Tx>, tx: Tx, key: string): Promise<void> {
  await driver.run(tx, "INSERT INTO effect (key, cents) VALUES ($1, 1)", [key]);
}

export async function effects(admin: pg.Pool, key: string): Promise<number> {
  const { rows } = await admin.query<{ n: number }>("SELECT count(*)::integer AS n FROM effect WHERE key = $1", [key]);
  return rows[0]?.n ?? -1;
}

/** Asks until it is so; says what it waited for if it never is. */
export async function until(what: string, isSo: () => Promise<boolean> | boolean): Promise<void> {
  const end = performance.now() + 20_000;
  while (!(await isSo())) {
    if (performance.now() > end) {
      throw new Error(`waited in vain until ${what}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A promise and what resolves it. */
export function latch(): { opened: Promise<void>; open: () => void } {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  return { opened: promise, open: () => { resolve(undefined); } };
}

/** A door to the server on 127.0.0.1. `onCommit`, once: `before` breaks the connection in place of a COMMIT, `after` once the server has carried it out. */
export class Door {
  onCommit: "before" | "after" | undefined;
  /** Nothing gets through, and nobody is told. */
  isBlack = false;
  /** What nobody has let through yet, while the door is slow. */
  #kept: (() => void)[] | undefined;
  readonly #listener = net.createServer((client) => {
    this.#join(client);
  });
  readonly #sockets = new Set<net.Socket>();
  readonly #clients: net.Socket[] = [];

  async open(): Promise<number> {
    this.#listener.listen(0, "127.0.0.1");
    await event(this.#listener, "listening");
    after(() => {
      this.#listener.close();
      this.#sockets.forEach((socket) => socket.destroy());
    });
    return (this.#listener.address() as net.AddressInfo).port;
  }

  /** Keeps what comes in, until it is let through. */
  keep(): void {
    this.#kept = [];
  }

  letThrough(): void {
    const kept = this.#kept ?? [];
    this.#kept = undefined;
    kept.forEach((pass) => {
      pass();
    });
  }

  /** How many connections are open, without the first ones. */
  openAfter(first: number): number {
    return this.#clients.slice(first).filter((client) => !client.destroyed).length;
  }

  #join(client: net.Socket): void {
    this.#clients.push(client);
    const server = net.connect(`${PGHOST}/.s.PGSQL.${PGPORT}`);
    let isDoomed = false;
    const end = (): void => {
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) {
      this.#sockets.add(socket);
      socket.on("error", end).on("close", end);
    }
    client.on("data", (bytes) => {
      if (this.isBlack) {
        return;
      }
      if (this.onCommit !== undefined && /[QP][^]{4}[^\0]*\0?commit\0/i.test(bytes.toString("latin1"))) {
        if (this.onCommit === "before") {
          this.onCommit = undefined;
          end();
          return;
        }
        this.onCommit = undefined;
        isDoomed = true;
      }
      if (this.#kept === undefined) {
        server.write(bytes);
      } else {
        this.#kept.push(() => server.write(bytes));
      }
    });
    server.on("data", (bytes) => {
      if (isDoomed) {
        // CommandComplete has come: the server has committed.
        if (bytes.toString("latin1").includes("COMMIT\0")) {
          end();
        }
      } else if (!this.isBlack) {
        client.write(bytes);
      }
    });
  }
}
