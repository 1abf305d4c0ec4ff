//! What PL/pgSQL cannot see for a saga: whether its procedure may commit.

use crate::pg::arguments::{Args, Returned};
use crate::pg::snapshot;
use pgrx::pg_sys::Datum;
use rules::error::{Code, Error};

/// A step that commits would commit what the caller has not finished. Postgres refuses that itself,
/// but only after the first step has run, and without saying what to do.
pub fn refuse_transaction_block(_args: &Args) -> Returned {
    if snapshot::in_transaction_block() {
        return Err(Error::new(
            Code::InvalidTransactionTermination,
            "a saga cannot run inside a transaction block",
        )
        .detail("Each of its steps commits by itself.")
        .hint("CALL idempotent_saga_run() outside BEGIN, with the driver's autocommit on."));
    }
    Ok(Some(Datum::from(0)))
}
