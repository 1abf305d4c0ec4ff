/** Trying again: after a conflict or a lost connection, and while another attempt holds the key. */
import { setTimeout as sleep } from "node:timers/promises";
import { ConnectionLost } from "./database.js";
import { Unavailable, sqlstate } from "./errors.js";

export interface Limits {
  /** Milliseconds to wait for another attempt that holds the key; 2000 unless given. No connection is held meanwhile. */
  wait?: number | undefined;
  /** How often to run; 5 unless given. */
  tries?: number | undefined;
  /** Milliseconds after which no further try begins; 30000 unless given. */
  deadline?: number | undefined;
}

export const DEFAULTS = { wait: 2_000, tries: 5, deadline: 30_000 } as const;

/** Serialization failure, deadlock; the server shuts down, has crashed, or is not up yet; it has no connection left. */
const PASSING = new Set(["40001", "40P01", "57P01", "57P02", "57P03", "53300"]);

export function isPassing(error: unknown): boolean {
  if (error instanceof ConnectionLost) {
    return true;
  }
  const state = sqlstate(error);
  return state !== undefined && !(error instanceof Unavailable) && (PASSING.has(state) || state.startsWith("08"));
}

/** Another attempt holds the key: what to make of that once the wait is over. */
export class Busy<T> {
  readonly giveUp: () => T;

  constructor(giveUp: () => T) {
    this.giveUp = giveUp;
  }
}

const JITTER_BASE = 100;
const JITTER_MOST = 2_000;
const PAUSE_BASE = 20;
const PAUSE_MOST = 250;

/** 20, 40 .. 250 ms between two questions. */
export function pause(asked: number): number {
  return Math.min(PAUSE_MOST, PAUSE_BASE * 2 ** asked);
}

/** Full jitter: those who met once do not meet again. */
function jitter(tries: number): number {
  return Math.random() * Math.min(JITTER_MOST, JITTER_BASE * 2 ** (tries - 1));
}

/** Runs `attempt` until it has an answer. It is told how many tries came before. */
export async function persist<T>(limits: Limits, attempt: (before: number) => Promise<T | Busy<T>>): Promise<T> {
  const { wait, tries, deadline } = { ...DEFAULTS, ...defined(limits) };
  const began = performance.now();
  let before = 0;
  let asked = 0;
  let busySince: number | undefined;
  for (;;) {
    try {
      const result = await attempt(before);
      if (!(result instanceof Busy)) {
        return result;
      }
      busySince ??= performance.now();
      const left = wait - (performance.now() - busySince);
      if (left <= 0) {
        return result.giveUp();
      }
      await sleep(Math.min(pause(asked), left));
      asked += 1;
    } catch (error) {
      if (!isPassing(error)) {
        throw error;
      }
      before += 1;
      const delay = jitter(before);
      if (before >= tries || performance.now() - began + delay > deadline) {
        throw new Unavailable({ cause: error });
      }
      await sleep(delay);
    }
  }
}

function defined(limits: Limits): { wait?: number; tries?: number; deadline?: number } {
  const { wait, tries, deadline } = limits;
  return { ...(wait !== undefined && { wait }), ...(tries !== undefined && { tries }), ...(deadline !== undefined && { deadline }) };
}
