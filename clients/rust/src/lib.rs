#![doc = include_str!("../README.md")]
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod core;
pub mod drivers;
#[cfg(feature = "tower")]
pub mod http;
mod lease;
pub mod route;
pub mod testing;

#[cfg(feature = "axum")]
pub mod axum;

pub use core::{
    call::{Answer, Answered, Event, IntoAnswer, Scope, Unscoped, complete, fail},
    database::{Cell, Connection, Database, DatabaseError, Isolation, Parameter, Row, Transaction},
    error::{BoxError, Error},
    once::Once,
    tx::{Tx, TxGuard},
};
#[cfg(feature = "sqlx")]
pub use drivers::sqlx::SqlxTx;
#[cfg(feature = "tokio-postgres")]
pub use drivers::tokio_postgres::PgTx;
#[cfg(feature = "tower")]
pub use http::{Idempotency, IdempotencyLayer, Mode};
pub use lease::{Lease, held::Held};
pub use tokio_util::sync::CancellationToken;
