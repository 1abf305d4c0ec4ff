/** Idempotency keys inside the application's own Postgres transaction. */
export { type Answer, type AnswerFacts, type Answered, type Call, type Event, type Identity, type Observe, complete, fail } from "./core/call.js";
export { currentTransaction } from "./core/context.js";
export { ConnectionLost, type Database, type Isolation } from "./core/database.js";
export {
  Expired, IdempotencyError, InProgress, InvalidKey, LeaseLost, Mismatch, Misrouted, NotInstalled, Sealed, Unavailable, Unknown, sqlstate,
} from "./core/errors.js";
export { type OnceCall, once } from "./core/once.js";
export { type Source } from "./drivers/pg.js";
export { type Lease, type LeaseCall, currentLease, withLease } from "./lease/lease.js";
