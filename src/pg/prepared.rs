//! SQL through SPI that is planned once per backend, for what is called often and is not worth a
//! path of its own.

use crate::pg::datum::encoding::to_server;
use crate::pg::spi::with_spi;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::error::{Code, Error, Result};
use std::cell::Cell;

/// A statement, and its plan once there is one. Postgres plans it anew when a table is not what it
/// was.
pub struct Prepared {
    sql: &'static str,
    types: &'static [pg_sys::Oid],
    plan: Cell<pg_sys::SPIPlanPtr>,
}

impl Prepared {
    pub const fn new(sql: &'static str, types: &'static [pg_sys::Oid]) -> Self {
        Self { sql, types, plan: Cell::new(std::ptr::null_mut()) }
    }

    /// Runs it with values that are not null; returns the number of rows it processed.
    pub fn execute(&self, values: &[Datum]) -> Result<u64> {
        if values.len() != self.types.len() {
            return Err(failed(pg_sys::SPI_ERROR_ARGUMENT));
        }
        with_spi(|| {
            let plan = self.plan()?;
            let mut values = values.to_vec();
            // SAFETY: a kept plan, and as many values as it has parameters; no nulls.
            let code = unsafe {
                pg_sys::SPI_execute_plan(plan, values.as_mut_ptr(), std::ptr::null(), false, 0)
            };
            if code < 0 {
                return Err(failed(code));
            }
            // SAFETY: set by the statement just run.
            Ok(unsafe { pg_sys::SPI_processed })
        })
    }

    fn plan(&self) -> Result<pg_sys::SPIPlanPtr> {
        let plan = self.plan.get();
        if !plan.is_null() {
            return Ok(plan);
        }
        let mut types = self.types.to_vec();
        let count = i32::try_from(types.len()).unwrap_or(0);
        // SAFETY: within SPI; a NUL-terminated statement, and `count` types. The plan is kept for as
        // long as the backend lives.
        unsafe {
            let plan = pg_sys::SPI_prepare(to_server(self.sql), count, types.as_mut_ptr());
            if plan.is_null() || pg_sys::SPI_keepplan(plan) != 0 {
                return Err(failed(pg_sys::SPI_result));
            }
            self.plan.set(plan);
            Ok(plan)
        }
    }
}

fn failed(code: i32) -> Error {
    Error::new(Code::ObjectNotReady, "could not run an internal statement")
        .detail(format!("SPI answered {code}."))
        .hint("See that the extension's tables are as CREATE EXTENSION made them.")
}
