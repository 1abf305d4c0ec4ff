/** Answers of the adapters themselves (RFC 9457); those about a key come from the database. */
import type { Instead } from "./exchange.js";

/** Name and value. */
export type Header = [string, string];

function problem(status: number, title: string, detail: string, ...headers: Header[]): Instead {
  const body = Buffer.from(JSON.stringify({ type: "about:blank", title, status, detail }));
  return { status, headers: [["Content-Type", "application/problem+json"], ...headers], body };
}

export function tooMany(): Instead {
  return problem(400, "Idempotency-Key is malformed", "The request has more than one header Idempotency-Key, or a key that has a comma and no quotes.");
}

export function tooLarge(limit: number): Instead {
  return problem(413, "Content Too Large", `The body of a request may have ${limit} bytes.`);
}

export function misrouted(): Instead {
  return problem(421, "Misdirected Request", "The key belongs to another node.");
}

export function unavailable(): Instead {
  return problem(503, "Service Unavailable", "Nothing is known to have happened. Send the request again, with the same Idempotency-Key.", ["Retry-After", "1"]);
}
