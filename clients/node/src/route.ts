/** Which of several nodes a key lives on. The bytes are those of `idempotent_slot` and `idempotent_shard`. */
import { createHash } from "node:crypto";

/** How many slots there are. */
export const SLOTS = 16384;

/** The slot of an owner: of the scope where there is one, else of the key. It does not depend on the operation, so that all operations of one tenant live together. */
export function slot(key: string, scope: string | null): number {
  const owner = scope === null || scope === "" ? key : scope;
  return createHash("sha256").update(owner, "utf8").digest().readUInt16BE(0) % SLOTS;
}

/** The shard of a slot, of so many: jump consistent hash. From n to n + 1 shards one slot in n + 1 moves, and only to the new shard. */
export function shard(slot: number, shards: number): number {
  let key = BigInt(slot);
  let bucket = 0;
  for (let jump = 0; jump < shards; ) {
    bucket = jump;
    key = BigInt.asUintN(64, key * 2862933555777941757n + 1n);
    jump = Math.floor((bucket + 1) * (2 ** 31 / (Number(key >> 33n) + 1)));
  }
  return bucket;
}

/** Pools of nodes, in the order of their shards. */
export class Router<Node> {
  readonly #nodes: readonly Node[];

  constructor(nodes: Iterable<Node>) {
    this.#nodes = Array.from(nodes);
    if (this.#nodes.length === 0) {
      throw new RangeError("a router needs a node");
    }
  }

  /** The pool of the node that a key lives on, for `once` and its like. The scope is the one of the call; `null` says that there is one tenant. */
  of(key: string, scope: string | null): Node {
    return this.#nodes[shard(slot(key, scope), this.#nodes.length)] as Node;
  }
}
