/** One task for each database extends all leases of the process, on a connection of its own: a pool whose connections are all taken must cost no lease. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Database, OwnConnection } from "../core/database.js";
import { EXTEND_ALL, interval } from "../core/sql.js";

/** A lease that is being extended. Times are of `performance.now()`. */
interface Beat {
  operation: string;
  scope: string;
  key: string;
  fence: string;
  lease: number;
  due: number;
  lapses: number;
  /** Why the last heartbeat failed, if it did. */
  failure: unknown;
  lose: (failure: unknown) => void;
}

const hearts = new WeakMap<object, Heart>();

/** Extends a lease every third of its length until the returned function is called; `lose` is called once, when it is lost, with the error of the last heartbeat if that
 * failed. `since`: when the claim was sent. */
export function keepAlive(
  database: Database<unknown>,
  held: { operation: string; scope: string; key: string; fence: string; lease: number; since: number },
  lose: (failure: unknown) => void,
): () => void {
  let heart = hearts.get(database);
  if (heart === undefined) {
    heart = new Heart(database);
    hearts.set(database, heart);
  }
  const { since, ...rest } = held;
  return heart.add({ ...rest, due: since + held.lease / 3, lapses: since + held.lease, failure: undefined, lose });
}

class Heart {
  readonly #database: Database<unknown>;
  readonly #beats = new Set<Beat>();
  #connection: OwnConnection | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isBeating = false;

  constructor(database: Database<unknown>) {
    this.#database = database;
  }

  add(beat: Beat): () => void {
    this.#beats.add(beat);
    this.#schedule();
    return () => {
      this.#remove(beat);
    };
  }

  #remove(beat: Beat): void {
    this.#beats.delete(beat);
    this.#schedule();
  }

  /** Until the next lease is due, or has lapsed while a statement is still out. */
  #schedule(): void {
    clearTimeout(this.#timer);
    if (this.#beats.size === 0) {
      this.#disconnect();
      return;
    }
    const next = Math.min(...Array.from(this.#beats, (beat) => (this.#isBeating ? beat.lapses : Math.min(beat.due, beat.lapses))));
    this.#timer = setTimeout(() => {
      this.#wake();
    }, Math.max(0, next - performance.now()));
  }

  #wake(): void {
    const now = performance.now();
    for (const beat of this.#beats) {
      // Lapsed by our own clock: whatever the server would say, somebody else may hold the key.
      if (beat.lapses <= now) {
        this.#lose(beat);
      }
    }
    if (!this.#isBeating && this.#beats.size > 0) {
      void this.#beat(now);
    }
    this.#schedule();
  }

  #lose(beat: Beat): void {
    this.#beats.delete(beat);
    beat.lose(beat.failure);
  }

  async #beat(now: number): Promise<void> {
    // Those that are nearly due come along, so that many leases settle into one statement.
    const due = Array.from(this.#beats).filter((beat) => beat.due <= now + beat.lease / 10);
    if (due.length === 0) {
      return;
    }
    this.#isBeating = true;
    try {
      for (const group of groups(due)) {
        await this.#extend(group);
      }
    } catch (error) {
      this.#disconnect();
      // The connection is made anew; a lease that lapses before that is lost.
      for (const beat of due) {
        beat.failure = error;
        beat.due = Math.max(beat.due, performance.now() + Math.min(1_000, beat.lease / 10));
      }
    } finally {
      this.#isBeating = false;
      this.#schedule();
    }
  }

  async #extend(group: [Beat, ...Beat[]]): Promise<void> {
    const { operation, scope, lease } = group[0];
    const sent = performance.now();
    const lost = new Set(await this.#ask([
      operation, JSON.stringify(group.map((beat) => beat.key)), JSON.stringify(group.map((beat) => beat.fence)), interval(lease), scope,
    ], lease / 3));
    for (const beat of group.filter((beat) => this.#beats.has(beat))) {
      beat.failure = undefined;
      if (lost.has(beat.key)) {
        this.#lose(beat);
      } else {
        beat.due = sent + lease / 3;
        beat.lapses = sent + lease;
      }
    }
  }

  /** The keys that are lost. A network that swallows everything must not hold up the other leases: after `patience` the connection counts as broken. */
  async #ask(parameters: (string | null)[], patience: number): Promise<(string | null)[]> {
    // Kept from the moment it is begun: whoever disconnects ends it, made or not.
    this.#connection ??= this.#database.connect();
    const asked = this.#connection.query(EXTEND_ALL, parameters);
    const late = new AbortController();
    const timer = sleep(patience, undefined, { signal: late.signal }).then(() => {
      throw new Error("no answer to a heartbeat");
    });
    try {
      const rows = await Promise.race([asked, timer]);
      return rows.map(([key]) => key ?? null);
    } finally {
      asked.catch(() => undefined);
      timer.catch(() => undefined);
      late.abort();
    }
  }

  #disconnect(): void {
    this.#connection?.close();
    this.#connection = undefined;
  }
}

/** Leases that one statement can extend. A key that is there twice, with the fence of a holder that was taken over, goes alone: what is lost is told by key. */
function groups(beats: Beat[]): [Beat, ...Beat[]][] {
  const found = new Map<string, [Beat, ...Beat[]]>();
  for (const beat of beats) {
    for (let copy = 0; ; copy += 1) {
      const name = JSON.stringify([beat.operation, beat.scope, beat.lease, copy]);
      const group = found.get(name);
      if (group === undefined) {
        found.set(name, [beat]);
        break;
      }
      if (!group.some((other) => other.key === beat.key)) {
        group.push(beat);
        break;
      }
    }
  }
  return Array.from(found.values());
}
