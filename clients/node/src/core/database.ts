/** What the client asks of a driver: a transaction, and a connection of its own. Where drivers differ, the difference lives in one file each below drivers/. */

/** A parameter. Every statement casts what it is sent, so that no driver's typing matters. */
export type Parameter = string | Uint8Array | null;

/** A column of a result: every statement asks for text. */
export type Cell = string | null;

/** One open transaction. */
export interface Session<Tx> {
  /** The driver's own handle: what a handler gets, and closed when the transaction ends. */
  readonly tx: Tx;
  query(text: string, parameters: readonly Parameter[]): Promise<Cell[][]>;
}

/** A connection that is in no pool. The first query makes it. */
export interface OwnConnection {
  query(text: string, parameters: readonly Parameter[]): Promise<Cell[][]>;
  /** Ends it, also while it is being made and in the middle of a statement; never throws. From then on it does not keep the process alive. */
  close(): void;
}

export type Isolation = "read committed" | "repeatable read" | "serializable";

/** A database, by way of a driver's pool. */
export interface Database<Tx> {
  /** Runs `work` between BEGIN and COMMIT on a connection of the pool; what it throws rolls back. Throws `ConnectionLost` where the connection is to blame. */
  transaction<T>(work: (session: Session<Tx>) => Promise<T>, isolation?: Isolation): Promise<T>;
  connect(): OwnConnection;
}

/** The connection could not be made, or broke: whether a COMMIT on it took place is for the claim to tell. */
export class ConnectionLost extends Error {
  override readonly name = "ConnectionLost";

  constructor(cause: unknown) {
    super("the connection to the database is lost", { cause });
  }
}

/** Passes the handle of a transaction on until it has ended: a statement that was forgotten must not run in the next caller's transaction. */
export function guarded<Tx extends object>(tx: Tx, isOpen: () => boolean): Tx {
  const check = (): void => {
    if (!isOpen()) {
      throw new Error("the transaction has ended: await every statement before the handler returns");
    }
  };
  return new Proxy(tx, {
    get(target, property) {
      const value: unknown = Reflect.get(target, property, target);
      if (typeof value !== "function") {
        return value;
      }
      return (...values: unknown[]): unknown => {
        check();
        const result: unknown = Reflect.apply(value, target, values);
        return result;
      };
    },
    apply(target, self, values) {
      check();
      return Reflect.apply(target as unknown as (...values: unknown[]) => unknown, self, values);
    },
  });
}
