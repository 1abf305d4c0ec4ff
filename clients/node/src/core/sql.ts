/** Every statement that the client sends. Parameters and columns are cast, because drivers differ in what they make of other types; a bytea goes out as it is. */

const RESULT = `SELECT outcome, fence::text, attempt::text, failed::text, status::text, headers::text, response::text, evicted::text, checkpoint::text,
  (extract(epoch FROM retry_after) * 1000)::integer::text`;

/** operation, key, request, scope, lease, first_sent, attempt_id. Never waits: that would hold the connection. */
export const CLAIM = `${RESULT}
  FROM idempotent_claim(operation => $1::text, key => $2::text, request => $3::text::jsonb, scope => $4::text, lease => $5::text::interval,
    wait => '0'::interval, first_sent => $6::text::timestamptz, attempt_id => $7::text::uuid)`;

/** operation, key, scope */
export const REPLAY = `${RESULT}
  FROM idempotent_replay(operation => $1::text, key => $2::text, scope => $3::text)`;

const finish = (verb: "complete" | "fail"): string => `SELECT idempotent_${verb}(operation => $1::text, key => $2::text, response => $3::text::jsonb,
    status => $4::text::integer, scope => $5::text, fence => $6::text::bigint, headers => $7::text::jsonb, retention => $8::text::interval)::text`;

/** operation, key, response, status, scope, fence, headers, retention */
export const COMPLETE = finish("complete");
export const FAIL = finish("fail");

/** operation, key, scope, fence */
export const RELEASE = "SELECT idempotent_release(operation => $1::text, key => $2::text, scope => $3::text, fence => $4::text::bigint)::text";

/** operation, key, checkpoint, scope, fence */
export const CHECKPOINT = `SELECT idempotent_checkpoint(operation => $1::text, key => $2::text, checkpoint => $3::text::jsonb, scope => $4::text,
    fence => $5::text::bigint)::text`;

/** operation, keys and fences as JSON arrays of strings, lease, scope; returns the keys whose leases are lost. */
export const EXTEND_ALL = `SELECT lost::text
  FROM idempotent_extend_all(operation => $1::text,
    keys => ARRAY(SELECT value FROM jsonb_array_elements_text($2::text::jsonb) WITH ORDINALITY ORDER BY ordinality),
    fences => ARRAY(SELECT value::bigint FROM jsonb_array_elements_text($3::text::jsonb) WITH ORDINALITY ORDER BY ordinality),
    lease => $4::text::interval, scope => $5::text) AS lost`;

/** operation, key, label, scope */
export const DERIVE_KEY = "SELECT idempotent_derive_key(operation => $1::text, key => $2::text, label => $3::text, scope => $4::text)::text";

export const CHECK = "SELECT idempotent_check()::text";

/** operation, key_header, method, target, content_type, body, scope, lease, attempt_id */
export const HTTP_CLAIM = `SELECT run::text, key, fence::text, outcome, status::text, headers, encode(body, 'base64'), retry_after_seconds::text
  FROM idempotent_http_claim(operation => $1::text, key_header => $2::text, method => $3::text, target => $4::text, content_type => $5::text,
    body => $6::bytea, scope => $7::text, lease => $8::text::interval, wait => '0'::interval, attempt_id => $9::text::uuid)`;

/** operation, key, status, headers, body, scope, fence */
export const HTTP_COMPLETE = `SELECT idempotent_http_complete(operation => $1::text, key => $2::text, status => $3::text::integer, headers => $4::text,
    body => $5::bytea, scope => $6::text, fence => $7::text::bigint)::text`;

/** operation, key, status, headers, bytes, scope, fence. Of an answer that is sent before it is whole: in place of its body there is one that the operation does not
 * admit, made in the server, so that a replay says that the body is gone. */
export const HTTP_COMPLETE_UNKEPT = HTTP_COMPLETE.replace("$5::bytea", "convert_to(repeat(' ', $5::text::integer), 'UTF8')");

/** Milliseconds as an interval. */
export function interval(milliseconds: number | undefined): string | null {
  return milliseconds === undefined ? null : `${milliseconds} milliseconds`;
}

/** JSON for a parameter that is cast to jsonb; undefined is NULL. */
export function json(value: unknown): string | null {
  return value === undefined ? null : JSON.stringify(value);
}
