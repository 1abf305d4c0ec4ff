//! `idempotent_check`: what the commit guard would say, now.

use crate::pg::arguments::{Args, Returned};
use crate::session::guard;
use pgrx::pg_sys::Datum;

pub fn idempotent_check(_: &Args) -> Returned {
    guard::refuse_open()?;
    // void
    Ok(Some(Datum::from(0)))
}
