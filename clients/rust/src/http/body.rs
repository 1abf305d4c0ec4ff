//! The body of an answer: kept back until COMMIT, streamed after it, or passed through.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use crate::core::error::BoxError;

/// The body of an answer.
pub struct AnswerBody<R> {
    first: Option<Bytes>,
    rest: Option<Pin<Box<R>>>,
}

impl<R> fmt::Debug for AnswerBody<R> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("AnswerBody")
    }
}

impl<R> AnswerBody<R> {
    /// The handler's own, as it comes.
    pub(crate) fn through(body: R) -> Self {
        Self { first: None, rest: Some(Box::pin(body)) }
    }

    pub(crate) fn whole(body: Bytes) -> Self {
        Self { first: Some(body).filter(|body| !body.is_empty()), rest: None }
    }
}

impl<R> Body for AnswerBody<R>
where
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        match &mut self.rest {
            Some(rest) => rest.as_mut().poll_frame(context).map_err(Into::into),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.as_ref().is_none_or(|rest| rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().map_or(0, Bytes::len) as u64;
        let mut hint =
            self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), |rest| rest.size_hint());
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + first);
        }
        hint.set_lower(hint.lower() + first);
        hint
    }
}

/// What was read of a body: all of it, or more than is kept.
pub(crate) struct Kept<R> {
    pub(crate) body: Bytes,
    pub(crate) rest: Option<Pin<Box<R>>>,
}

/// The bytes of a body that were read, and whether they are all of it.
#[derive(Clone, Copy)]
pub(crate) struct Stored<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) is_whole: bool,
}

impl<R> Kept<R> {
    /// What a record of it can have.
    pub(crate) fn stored(&self) -> Stored<'_> {
        Stored { bytes: &self.body, is_whole: self.rest.is_none() }
    }

    pub(crate) fn into_body(self) -> AnswerBody<R> {
        AnswerBody { first: Some(self.body).filter(|body| !body.is_empty()), rest: self.rest }
    }
}

/// Reads a body until it is whole, or too large to keep. Nothing of a stream is read.
pub(crate) async fn keep<R>(body: R, is_stream: bool, limit: usize) -> Result<Kept<R>, BoxError>
where
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    let mut body = Box::pin(body);
    if is_stream {
        return Ok(Kept { body: Bytes::new(), rest: Some(body) });
    }
    let mut kept = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(Into::into)?.into_data() {
            kept.extend_from_slice(&data);
        }
        if kept.len() > limit {
            return Ok(Kept { body: kept.into(), rest: Some(body) });
        }
    }
    Ok(Kept { body: kept.into(), rest: None })
}
