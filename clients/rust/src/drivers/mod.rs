//! Where PostgreSQL drivers differ: one file each.

#[cfg(feature = "sqlx")]
pub mod sqlx;
#[cfg(feature = "tokio-postgres")]
pub mod tokio_postgres;

use std::error::Error;

use crate::core::error::State;

/// What an error is that a driver raised.
#[cfg_attr(
    not(any(feature = "tokio-postgres", feature = "sqlx")),
    expect(unused_variables, reason = "there is no driver")
)]
pub(crate) fn state_of<'a>(error: &'a (dyn Error + 'static)) -> Option<State<'a>> {
    #[cfg(feature = "tokio-postgres")]
    if let Some(state) = tokio_postgres::state_of(error) {
        return Some(state);
    }
    #[cfg(feature = "sqlx")]
    if let Some(state) = sqlx::state_of(error) {
        return Some(state);
    }
    None
}
