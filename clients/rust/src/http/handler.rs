//! A handler at work: its answer, read as far as it is kept, and the error behind that.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, header, response::Parts as Head};
use http_body::Body;
use tower_service::Service;

use super::body::{Kept, keep};
use crate::core::error::{BoxError, Error, is_passing};

/// The error behind an answer, for the layer to look at.
#[derive(Clone)]
struct Behind(Arc<BoxError>);

impl fmt::Debug for Behind {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(to)
    }
}

/// Says which error an answer was made of. If that is a serialization failure, a deadlock or a lost connection, the layer runs the handler again, and the
/// answer is never sent. [`axum::Failed`](crate::axum::Failed) does it.
pub fn with_error<R>(mut response: Response<R>, error: impl Into<BoxError>) -> Response<R> {
    response.extensions_mut().insert(Behind(Arc::new(error.into())));
    response
}

/// What a handler has come to: its answer, or the error of a service that is no answer.
pub(crate) type Worked<R, E> = Result<(Head, Kept<R>), E>;

pub(crate) struct Handler<S> {
    pub(crate) inner: S,
}

impl<S> Handler<S> {
    /// Runs it, and reads its answer. `Err` for an error that another try may not have.
    pub(crate) async fn work<B, R>(
        &mut self,
        request: Request<B>,
        limit: usize,
    ) -> Result<Worked<R, S::Error>, Error>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone,
        R: Body<Data = Bytes>,
        R::Error: Into<BoxError>,
    {
        let mut inner = self.inner.clone();
        if let Err(error) = std::future::poll_fn(|context| inner.poll_ready(context)).await {
            return Ok(Err(error));
        }
        let response = match inner.call(request).await {
            Ok(response) => response,
            Err(error) => return Ok(Err(error)),
        };
        let (mut head, body) = response.into_parts();
        if let Some(Behind(error)) = head.extensions.remove::<Behind>()
            && is_passing(error.as_ref().as_ref())
        {
            return Err(Error::Handler(Box::new(Again(error))));
        }
        Ok(Ok((head.clone(), keep(body, is_stream(&head), limit).await.map_err(Error::Handler)?)))
    }
}

/// An error that is shared with the answer that was made of it.
#[derive(Debug)]
struct Again(Arc<BoxError>);

impl fmt::Display for Again {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(to)
    }
}

impl std::error::Error for Again {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.0.as_ref().as_ref())
    }
}

fn is_stream(head: &Head) -> bool {
    let media_type = head
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    media_type
        .split(';')
        .next()
        .is_some_and(|name| name.trim().eq_ignore_ascii_case("text/event-stream"))
}
