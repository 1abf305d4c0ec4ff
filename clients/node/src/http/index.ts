/** Adapters for HTTP servers. None of them needs its framework to be installed. */
export { currentTransaction } from "../core/context.js";
export { currentLease } from "../lease/hold.js";
export { type HttpOptions } from "./exchange.js";
export { expressIdempotent } from "./express.js";
export { fastifyIdempotent } from "./fastify.js";
export { fetchIdempotent, honoIdempotent } from "./fetch.js";
export { type Header } from "./problem.js";
