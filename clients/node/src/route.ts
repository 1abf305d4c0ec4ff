/** Which of several nodes a key lives on. The numbers are those of `idempotent_slot` and `idempotent_shard`. */
import { Misrouted } from "./core/errors.js";
import { slot } from "./core/slot.js";

export { SLOTS, slot } from "./core/slot.js";

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
  /** Makes a call on the node that the key lives on: `router.run(key, scope, (pool) => once(pool, { key, scope, ... }, handler))`. While slots move, this router may know
   * less than the nodes: where one says that the key is another's (`Misrouted`, so that nothing has happened there) the others are asked in turn. */
  async run<T>(key: string, scope: string | null, call: (node: Node) => Promise<T>): Promise<T> {
    const first = this.of(key, scope);
    let refused: unknown;
    for (const node of [first, ...this.#nodes.filter((node) => node !== first)]) {
      try {
        return await call(node);
      } catch (error) {
        // Of a call for another key, within this one, no node is to blame.
        if (!(error instanceof Misrouted) || error.slot !== slot(key, scope)) {
          throw error;
        }
        refused = error;
      }
    }
    throw refused;
  }
}
