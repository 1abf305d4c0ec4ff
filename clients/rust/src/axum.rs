//! Extractors for axum: [`Tx`] and [`Held`] as arguments of a handler, and [`Failed`] for what it fails with.

use std::convert::Infallible;

use axum_core::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse, Response},
};
use http::{StatusCode, request::Parts};

use crate::{BoxError, Held, Tx, http::with_error};

/// The request has no key, or passed no [`IdempotencyLayer`](crate::IdempotencyLayer), or that one has the other mode.
#[derive(Clone, Copy, Debug)]
pub struct Missing;

impl IntoResponse for Missing {
    fn into_response(self) -> Response {
        let why = "the request has no Idempotency-Key, or its route has no IdempotencyLayer in the mode that the handler wants";
        (StatusCode::INTERNAL_SERVER_ERROR, why).into_response()
    }
}

macro_rules! from_extensions {
    ($($generic:ident)?, $found:ty) => {
        /// What the layer has put into the request.
        impl<S: Sync, $($generic: Send + 'static)?> FromRequestParts<S> for $found {
            type Rejection = Missing;

            async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Missing> {
                parts.extensions.get::<Self>().cloned().ok_or(Missing)
            }
        }

        /// None for a request without a key.
        impl<S: Sync, $($generic: Send + 'static)?> OptionalFromRequestParts<S> for $found {
            type Rejection = Infallible;

            async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
                Ok(parts.extensions.get::<Self>().cloned())
            }
        }
    };
}

from_extensions!(C, Tx<C>);
from_extensions!(, Held);

/// Any error as 500. The layer sees it, and runs the handler again after a serialization failure, a deadlock or a lost connection.
#[derive(Debug)]
pub struct Failed(BoxError);

impl<E: Into<BoxError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        with_error(StatusCode::INTERNAL_SERVER_ERROR.into_response(), self.0)
    }
}
