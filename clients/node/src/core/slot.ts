/** Which slot a key lives in. The bytes are those of `idempotent_slot`. */
import { createHash } from "node:crypto";

/** How many slots there are. */
export const SLOTS = 16384;

/** The slot of an owner: of the scope where there is one, else of the key. It does not depend on the operation, so that all operations of one tenant live together. */
export function slot(key: string, scope: string | null): number {
  const owner = scope === null || scope === "" ? key : scope;
  return createHash("sha256").update(owner, "utf8").digest().readUInt16BE(0) % SLOTS;
}
