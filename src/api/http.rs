//! `idempotent_http_claim` and `idempotent_http_complete`: idempotency for a server of HTTP, in two calls.

use crate::keys::call::{Call, check_may};
use crate::keys::decision::Opened;
use crate::keys::http::HttpAnswer;
use crate::keys::keyless::Keyless;
use crate::keys::mode;
use crate::keys::request::{Document, Request, limit, wait};
use crate::keys::stored::Stored;
use crate::pg::arguments::{Args, Returned};
use crate::pg::datum::text::Text;
use crate::pg::datum::{jsonb, make};
use crate::pg::declaration::arguments;
use crate::pg::{clock, memory, snapshot};
use crate::tables::operations;
use pgrx::pg_sys::Datum;
use rules::error::{Code, Error, Result};
use rules::http::headers;
use rules::http::keep::{self, Keep};
use rules::http::key::{self, BadKey};
use rules::http::problem::Problem;
use rules::identity::{Identity, check_operation};
use rules::request::http::HttpRequest;

arguments! {
    CLAIM: HttpClaim = "idempotent_http_claim" {
        operation: Text, key_header: Text, method: Text, target: Text, content_type: Text, body: Bytes, scope: Text, lease: Interval, wait: Interval, attempt_id: Uuid,
    }
    COMPLETE: HttpComplete = "idempotent_http_complete" {
        operation: Text, key: Text, status: Int4, headers: Text, body: Bytea, scope: Text, fence: Int8,
    }
}

pub fn idempotent_http_claim(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_http_claim()");
    let header = args.get(CLAIM.key_header);
    let http = HttpRequest::new(
        args.get(CLAIM.method).map(|text| text.utf8),
        args.get(CLAIM.target).map(|text| text.utf8),
        args.get(CLAIM.content_type).map(|text| text.utf8),
        args.get(CLAIM.body).unwrap_or_default(),
    )?;
    let http = http.looking_up(clock::look_up);
    // The rules of a key are those of its UTF-8; the key itself is kept as the server spells it.
    if let Err(bad) = key::read(header.map(|text| text.utf8)) {
        return without_key(args, &http, bad);
    }
    let server = header.map_or(&b""[..], |text| text.server);
    let named = make::varlena(&key::within(server))?;
    // SAFETY: a text that was just made, in the memory of the call.
    let key = unsafe { Text::from_datum(named) };
    let limit = limit(args.duration(CLAIM.wait, 0).ok().flatten());
    let lease = args.duration(CLAIM.lease, 1)?;
    let mut call = match Call::new(args.get(CLAIM.operation), Some(key), args.get(CLAIM.scope)) {
        Ok(call) => call,
        Err(_) if !has_form(args.get(CLAIM.operation), &key)? => {
            return without_key(args, &http, BadKey::NoUuid);
        }
        Err(error) => {
            let keyless =
                Keyless::claim(error, args.get(CLAIM.operation), args.get(CLAIM.scope), Some(key))?;
            let answer = HttpAnswer::new(&keyless.claimed(lease)?, Some(named), http.is_head())?;
            return args.return_row(&answer.columns());
        }
    };
    let given = args.duration(CLAIM.wait, 0)?;
    limit.set(wait(given, &call.policy));
    let opened = mode::open(&mut call, lease, false)?;
    // As the settings are now that they cannot change any more.
    let wait = wait(given, &call.policy);
    limit.set(wait);
    memory::expect(http.memory())?;
    let request = Request {
        fingerprint: Some(http.fingerprint(&call.policy.exclude, call.policy.exclusion_set)),
        document: Some(Document::Http(&http)),
        lease: call.allowed_lease(lease)?.or(call.policy.lease),
        wait,
        first_sent: None,
        attempt_id: args.get(CLAIM.attempt_id),
    };
    let decision = match opened {
        Opened::Records(records) => mode::claim(&call, &records, &request)?,
        Opened::InTheWay(decision) => decision,
    };
    let answer = HttpAnswer::new(&decision.counted(&call)?, Some(named), http.is_head())?;
    args.return_row(&answer.columns())
}

/// Whether the key looks as those of the operation do: if not, that is the client's fault.
fn has_form(operation: Option<Text<'_>>, key: &Text<'_>) -> Result<bool> {
    operation.map_or(Ok(true), |name| Ok(operations::got(&name)?.policy.key_form.takes(key.utf8)))
}

/// A header that names no key: 400, and for an operation that is only observed, do the work.
fn without_key(args: &Args, http: &HttpRequest<'_>, bad: BadKey) -> Returned {
    let (operation, scope) = (args.get(CLAIM.operation), args.get(CLAIM.scope));
    check_operation(operation.map(|operation| operation.utf8))?;
    // Whether the rest is as it must be does not depend on the key.
    Identity::new(operation.map(|text| text.utf8), scope.map(|text| text.utf8), Some(b"-"))?;
    if let (Some(operation), Some(scope)) = (operation, scope) {
        check_may(&operations::get(&operation)?.policy, operation.utf8, scope.utf8)?;
    }
    let header = args.get(CLAIM.key_header).filter(|_| bad != BadKey::Missing);
    let refusal = Error::new(Code::BadKey, "the header names no key");
    let answer = match Keyless::claim(refusal, operation, scope, header) {
        Ok(keyless) => {
            let claimed = keyless.claimed(args.duration(CLAIM.lease, 1)?)?;
            HttpAnswer::new(&claimed, None, http.is_head())?
        }
        Err(error) if error.code == Code::BadKey => {
            HttpAnswer::problem(&Problem::of_key(bad), None, http.is_head())?
        }
        Err(error) => return Err(error),
    };
    args.return_row(&answer.columns())
}

pub fn idempotent_http_complete(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_http_complete()");
    let status = keep::final_status(args.get(COMPLETE.status))?;
    let given = args.get(COMPLETE.headers).map(|text| text.utf8);
    memory::expect(rules::request::json::memory(given.unwrap_or_default()))?;
    let given = given.map_or(Ok(Vec::new()), |given| headers::read(given, clock::look_up))?;
    let mut call = match Call::of_holder(
        args.get(COMPLETE.operation),
        args.get(COMPLETE.key),
        args.get(COMPLETE.scope),
    ) {
        Ok(call) => call,
        Err(error) => {
            return Keyless::instead_of(error, args.get(COMPLETE.operation))
                .map(|_| is_stored(false));
        }
    };
    let fence = args.get(COMPLETE.fence);
    let kept = call.policy.http.store.keep(status);
    if kept == Keep::Release {
        mode::release(&mut call, fence)?;
        return Ok(is_stored(false));
    }
    let pairs = call.policy.http.headers.kept(given);
    let stored = Stored {
        failed: kept == Keep::Fail,
        status: Some(i32::from(status)),
        headers: stored_headers(&pairs)?,
        body: args.get(COMPLETE.body).filter(|_| keep::has_body(status)),
        ..Stored::default()
    };
    mode::store(&mut call, fence, &stored)?;
    Ok(is_stored(true))
}

fn stored_headers(pairs: &[headers::Header]) -> Result<Option<Datum>> {
    if pairs.is_empty() { Ok(None) } else { jsonb::of(pairs) }
}

fn is_stored(stored: bool) -> Option<Datum> {
    Some(Datum::from(stored))
}
