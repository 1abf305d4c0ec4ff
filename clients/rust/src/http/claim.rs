//! What a request and an answer are to the extension.

use std::borrow::Cow;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, response::Parts as Head,
};

use super::{HEADER, body::AnswerBody, exchange::Asked};
use crate::core::{
    database::{Connection, Parameter, bytes, interval, number, text},
    error::Error,
    sql::{HTTP_CLAIM, HTTP_COMPLETE, HTTP_COMPLETE_UNKEPT},
};

/// A value that names no key in any reading: the extension words the problem.
const MALFORMED: &str = "\"";

/// The value of the one header; none for blanks. Two headers name no key.
pub(crate) fn key_header(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(HEADER).iter();
    let first = values.next()?;
    if values.next().is_some() {
        return Some(MALFORMED.to_owned());
    }
    let first = decode(first).into_owned();
    (!first.trim_matches([' ', '\t']).is_empty()).then_some(first)
}

/// Headers are bytes: UTF-8 if they can be, else Latin-1.
pub(crate) fn decode(value: &HeaderValue) -> Cow<'_, str> {
    std::str::from_utf8(value.as_bytes())
        .map_or_else(|_| value.as_bytes().iter().map(|byte| char::from(*byte)).collect(), Cow::from)
}

/// The row of a claim.
pub(crate) struct HttpClaim {
    pub(crate) run: bool,
    pub(crate) key: Option<String>,
    pub(crate) fence: Option<i64>,
    pub(crate) outcome: String,
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl HttpClaim {
    /// What is sent in place of running the handler.
    pub(crate) fn response<R>(self) -> Response<AnswerBody<R>> {
        let mut response = Response::new(AnswerBody::whole(self.body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in self.headers {
            if let (Ok(name), Ok(value)) =
                (HeaderName::try_from(name), HeaderValue::try_from(value))
            {
                response.headers_mut().append(name, value);
            }
        }
        response
    }
}

pub(crate) async fn claim(
    connection: &mut impl Connection,
    asked: &Asked,
) -> Result<HttpClaim, Error> {
    let parameters = [
        asked.operation.as_str().into(),
        asked.key_header.as_deref().into(),
        asked.parts.method.as_str().into(),
        asked.target().into(),
        asked
            .parts
            .headers
            .get(header::CONTENT_TYPE)
            .map(|value| decode(value).into_owned())
            .into(),
        Parameter::Bytes(asked.body.as_ref().into()),
        asked.scope.as_str().into(),
        asked.lease.map(interval).into(),
        asked.attempt_id.as_deref().into(),
    ];
    let rows = connection.rows(HTTP_CLAIM, &parameters).await?;
    let row = rows.first().map(Vec::as_slice).unwrap_or_default();
    Ok(HttpClaim {
        run: text(row, 0) == Some("true"),
        key: text(row, 1).map(str::to_owned),
        fence: number(row, 2),
        outcome: text(row, 3).unwrap_or_default().to_owned(),
        status: number(row, 4).unwrap_or_default(),
        headers: text(row, 5).map_or(Ok(Vec::new()), serde_json::from_str)?,
        body: Bytes::copy_from_slice(bytes(row, 6).unwrap_or_default()),
    })
}

/// Completes a key with an answer; whether it is stored. Else the key is free again. `unkept`: the body is not kept, and so many bytes are more than the
/// operation admits.
pub(crate) async fn complete(
    connection: &mut impl Connection,
    asked: &Asked,
    claim: &HttpClaim,
    head: &Head,
    body: &[u8],
    unkept: Option<usize>,
) -> Result<bool, Error> {
    let headers: Vec<(&str, Cow<'_, str>)> =
        head.headers.iter().map(|(name, value)| (name.as_str(), decode(value))).collect();
    let parameters = [
        asked.operation.as_str().into(),
        claim.key.as_deref().into(),
        head.status.as_u16().to_string().into(),
        serde_json::to_string(&headers)?.into(),
        unkept.map_or_else(|| Parameter::Bytes(body.into()), |bytes| bytes.to_string().into()),
        asked.scope.as_str().into(),
        claim.fence.map(|fence| fence.to_string()).into(),
    ];
    let statement = if unkept.is_some() { HTTP_COMPLETE_UNKEPT } else { HTTP_COMPLETE };
    let rows = connection.rows(statement, &parameters).await?;
    Ok(rows.first().and_then(|row| text(row, 0)) == Some("true"))
}
