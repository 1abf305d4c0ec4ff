//! Answers of the layer itself (RFC 9457); those about a key come from the database.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use super::body::AnswerBody;
use crate::core::error::Error;

fn problem<R>(status: StatusCode, detail: &str) -> Response<AnswerBody<R>> {
    let title = status.canonical_reason().unwrap_or_default();
    let body = serde_json::json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail}).to_string();
    let mut response = Response::new(AnswerBody::whole(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

pub(crate) fn broken<R>() -> Response<AnswerBody<R>> {
    problem(StatusCode::BAD_REQUEST, "The body of the request ended before it was whole.")
}

pub(crate) fn too_large<R>(limit: usize) -> Response<AnswerBody<R>> {
    problem(
        StatusCode::PAYLOAD_TOO_LARGE,
        &format!("A request with a key has at most {limit} bytes here."),
    )
}

pub(crate) fn unavailable<R>() -> Response<AnswerBody<R>> {
    let mut response = problem(
        StatusCode::SERVICE_UNAVAILABLE,
        "Nothing is known to have happened. Send the request again, with the same Idempotency-Key.",
    );
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// Why the layer itself answered 500, 503 or 421: in the extensions of that answer, for a layer outside of it that writes a log.
#[derive(Clone, Debug)]
pub struct Cause(pub Arc<Error>);

/// The answer to a request that the layer could not serve.
pub(crate) fn of<R>(error: Error) -> Response<AnswerBody<R>> {
    let mut response = match error {
        Error::Unavailable(_) | Error::LeaseLost => unavailable(),
        Error::Misrouted => {
            problem(StatusCode::MISDIRECTED_REQUEST, "The key belongs to another node.")
        }
        _ => problem(StatusCode::INTERNAL_SERVER_ERROR, "The request could not be worked on."),
    };
    #[cfg(feature = "tracing")]
    tracing::event!(target: "pg_idempotent", tracing::Level::ERROR, error = &error as &dyn std::error::Error, "a request with a key could not be served");
    response.extensions_mut().insert(Cause(Arc::new(error)));
    response
}
