//! SQL through SPI that is planned once per backend, for what is called often and is not worth a
//! path of its own.

use crate::pg::datum::encoding::to_server;
use crate::pg::spi::with_spi;
use crate::pg::{limit, raw, subtransaction};
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
            let values = values.as_mut_ptr();
            // SAFETY: `plan` was kept and is never freed; there are as many values as the plan has types,
            // compared above. A null array of nulls means that no value is null. The closure is Copy, and an
            // error goes on.
            let code = unsafe {
                subtransaction::call_keeping_error(|| {
                    raw::SPI_execute_plan(plan, values, std::ptr::null(), false, 0)
                })
            };
            let code = code.unwrap_or_else(|error| limit::told(error).resume());
            if code < 0 {
                return Err(failed(code));
            }
            // SAFETY: SPI_execute_plan has set SPI_processed, and SPI is still connected.
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
        // SAFETY: `execute` calls this within `with_spi`. `to_server` gives a NUL-terminated string, and
        // `types` has `count` elements; SPI copies both. SPI_keepplan moves the plan to a context that
        // lives as long as the backend.
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
