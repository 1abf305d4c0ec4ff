/** Errors by the SQLSTATE of the extension and by the answer that HTTP gives for them. */
import { slot } from "./slot.js";

export interface ErrorFacts {
  cause?: unknown;
  /** Milliseconds after which to ask again. */
  retryAfter?: number | undefined;
}

export class IdempotencyError extends Error {
  override readonly name: string = "IdempotencyError";
  /** As the extension raises it with `strict`. */
  readonly sqlstate: string;
  /** What an HTTP server answers. */
  readonly status: number;
  readonly retryAfter: number | undefined;

  constructor(message: string, sqlstate: string, status: number, facts: ErrorFacts = {}) {
    super(message, "cause" in facts ? { cause: facts.cause } : undefined);
    this.sqlstate = sqlstate;
    this.status = status;
    this.retryAfter = facts.retryAfter;
  }
}

export class InProgress extends IdempotencyError {
  override readonly name = "InProgress";
  constructor(facts?: ErrorFacts) {
    super("another attempt holds the key", "ID001", 409, facts);
  }
}

export class Mismatch extends IdempotencyError {
  override readonly name = "Mismatch";
  constructor(facts?: ErrorFacts) {
    super("the key was used with another request", "ID002", 422, facts);
  }
}

export class LeaseLost extends IdempotencyError {
  override readonly name = "LeaseLost";
  constructor(facts?: ErrorFacts) {
    super("the lease is lost: the work must not be completed as this attempt's", "ID003", 503, { retryAfter: 1000, ...facts });
  }
}

export class Expired extends IdempotencyError {
  override readonly name = "Expired";
  constructor(facts?: ErrorFacts) {
    super("the key is older than the retention", "ID004", 412, facts);
  }
}

export class Unknown extends IdempotencyError {
  override readonly name = "Unknown";
  constructor(facts?: ErrorFacts) {
    super("it may have happened, and nobody can tell: an administrator has to resolve the key", "ID005", 409, facts);
  }
}

export class InvalidKey extends IdempotencyError {
  override readonly name = "InvalidKey";
  constructor(message: string, facts?: ErrorFacts) {
    super(message, "ID006", 400, facts);
  }
}

export class Sealed extends IdempotencyError {
  override readonly name = "Sealed";
  constructor(facts?: ErrorFacts) {
    super("it was decided that this never runs", "ID008", 409, facts);
  }
}

/** Another node answers for the key: nothing has happened here. `Router.run` asks that one. */
export class Misrouted extends IdempotencyError {
  override readonly name = "Misrouted";
  /** The slot that the key lives in. */
  readonly slot: number;

  constructor(slot: number, facts?: ErrorFacts) {
    super("the key belongs to another node", "ID010", 421, facts);
    this.slot = slot;
  }
}

/** The extension is not in this database, or not in the search_path. */
export class NotInstalled extends IdempotencyError {
  override readonly name = "NotInstalled";
  constructor(facts?: ErrorFacts) {
    super("the extension is not in this database, or not in the search_path: CREATE EXTENSION pg_idempotent", "42883", 500, facts);
  }
}

/** The database could not be reached, or every try met a conflict. Nothing is known to have happened: send the same key again. */
export class Unavailable extends IdempotencyError {
  override readonly name = "Unavailable";
  constructor(facts?: ErrorFacts) {
    super("the database cannot be reached, or every try met a conflict", "08000", 503, { retryAfter: 1000, ...facts });
  }
}

const OF_OUTCOME = {
  in_progress: InProgress,
  mismatch: Mismatch,
  expired: Expired,
  unknown: Unknown,
  sealed: Sealed,
} as const;

/** The error for an outcome that is neither a claim nor an answer. */
export function errorOf(outcome: string, facts?: ErrorFacts): Error {
  return outcome in OF_OUTCOME
    ? new OF_OUTCOME[outcome as keyof typeof OF_OUTCOME](facts)
    : new Error(`the extension answered with an outcome that this client does not know: ${outcome}`);
}

const SQLSTATE = /^[0-9A-Z]{5}$/;

/** The SQLSTATE of an error, or of what caused it: layers above the driver wrap what it throws. */
export function sqlstate(error: unknown): string | undefined {
  for (let found = error, depth = 0; found instanceof Error && depth < 8; found = found.cause, depth += 1) {
    if (found instanceof IdempotencyError) {
      return found.sqlstate;
    }
    // Node's own codes of five letters, such as EPIPE, come with a number of the system.
    const { code, errno } = found as { code?: unknown; errno?: unknown };
    if (typeof code === "string" && SQLSTATE.test(code) && errno === undefined) {
      return code;
    }
  }
  return undefined;
}

/** What an error of the extension about the identity of a call is to the caller; any other is passed on as it is. */
export function translated(error: unknown, { key, scope }: { key: string; scope: string | null }): unknown {
  switch (error instanceof IdempotencyError ? undefined : sqlstate(error)) {
    case "ID006":
      return new InvalidKey("the operation, the key or the scope breaks the rules of names", { cause: error });
    case "ID010":
      return new Misrouted(slot(key, scope), { cause: error });
    case "42883":
      return new NotInstalled({ cause: error });
    default:
      return error;
  }
}
