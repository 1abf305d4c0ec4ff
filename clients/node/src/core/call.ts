/** What a call is about, and what it is answered. */
import type { Cell } from "./database.js";
import { InvalidKey } from "./errors.js";
import type { Limits } from "./retry.js";

/** What happens once: a key of an operation, within a scope. */
export interface Identity {
  operation: string;
  key: string;
  /** Whose key it is: what authentication has established. `null` says that there is one tenant. */
  scope: string | null;
}

export interface Call extends Identity, Limits {
  /** What is asked for, as JSON: the key with another request is a mismatch. */
  request?: unknown;
  /** When the client first sent it: dates a key that has no date of its own. */
  firstSent?: Date | undefined;
  /** Milliseconds for which the answer is kept, in place of the operation's retention. */
  ttl?: number | undefined;
  /** Told what became of the call; see `pg-idempotent/otel`. */
  observe?: Observe | undefined;
}

/** What became of a call. Neither key nor scope is in it. */
export interface Event {
  operation: string;
  mode: "transaction" | "lease";
  outcome: string;
  /** The attempt of the record, where one ran. */
  attempt: number | undefined;
  replayed: boolean;
}

export type Observe = (event: Event) => void;

export interface Answered<T> {
  /** What was stored: the same for the first caller and for all others. */
  answer: T;
  /** Whether an earlier call did the work. */
  replayed: boolean;
  /** Whether it is a failure that was stored with `fail`. */
  failed: boolean;
  status: number | null;
  headers: unknown;
  /** The answer was too large to keep, or is past the response retention: `answer` is null. */
  evicted: boolean;
}

/** What a claim says. */
export interface Result {
  outcome: string;
  fence: string | null;
  attempt: number | undefined;
  failed: boolean;
  status: number | null;
  headers: unknown;
  response: unknown;
  evicted: boolean;
  checkpoint: unknown;
  retryAfter: number | undefined;
}

export function parsed(cell: Cell | undefined): unknown {
  return cell === null || cell === undefined ? null : (JSON.parse(cell) as unknown);
}

export function number(cell: Cell | undefined): number | undefined {
  return cell === null || cell === undefined ? undefined : Number(cell);
}

/** The row of CLAIM and REPLAY. */
export function resultOf(rows: Cell[][]): Result {
  const [outcome, fence, attempt, failed, status, headers, response, evicted, checkpoint, retryAfter] = rows[0] ?? [];
  if (typeof outcome !== "string") {
    throw new Error("the extension did not answer");
  }
  return {
    outcome,
    fence: fence ?? null,
    attempt: number(attempt),
    failed: failed === "true",
    status: number(status) ?? null,
    headers: parsed(headers),
    response: parsed(response),
    evicted: evicted === "true",
    checkpoint: parsed(checkpoint),
    retryAfter: number(retryAfter),
  };
}

export function replayOf<T>(result: Result): Answered<T> {
  const { failed, status, headers, evicted } = result;
  return { answer: result.response as T, replayed: true, failed, status, headers, evicted };
}

/** What a handler returns that says more than its answer. */
export class Answer<T> {
  readonly value: T;
  readonly failed: boolean;
  readonly facts: AnswerFacts;

  constructor(value: T, failed: boolean, facts: AnswerFacts) {
    this.value = value;
    this.failed = failed;
    this.facts = facts;
  }
}

export interface AnswerFacts {
  status?: number | undefined;
  headers?: unknown;
}

/** An answer with a status or headers. */
export function complete<T>(value: T, facts: AnswerFacts = {}): Answer<T> {
  return new Answer(value, false, facts);
}

/** A final failure: stored for the operation's `failure_retention`, and replayed like an answer. What the handler wrote is committed with it. */
export function fail<T>(value: T, facts: AnswerFacts = {}): Answer<T> {
  return new Answer(value, true, facts);
}

export function answerOf<T>(returned: T | Answer<T>): Answer<T> {
  return returned instanceof Answer ? returned : complete(returned);
}

const SURROGATE = /\p{Surrogate}/u;

/** What cannot be sent as it is: a NUL is no text to Postgres, and half a character would be sent as another one, which two keys might share. */
export function checkIdentity(identity: Identity): void {
  // Callers in JavaScript can forget it, and no scope would be everybody's.
  if ((identity.scope as unknown) === undefined) {
    throw new TypeError("scope is required: whose key is it? Pass scope: null if there is one tenant only");
  }
  for (const [name, text] of [["operation", identity.operation], ["key", identity.key], ["scope", identity.scope ?? ""]] as const) {
    if (typeof (text as unknown) !== "string") {
      throw new TypeError(`the ${name} must be a string, not ${typeof text}`);
    }
    if (text.includes("\0") || SURROGATE.test(text)) {
      throw new InvalidKey(`the ${name} is no text: it has a NUL or half a character`);
    }
  }
}
