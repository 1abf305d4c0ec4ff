//! `idempotent_sweep`: deletes what has expired, and the bodies past `response_retention`.

use crate::domain::error::{Code, Error, Result};
use crate::entry::{Args, Returned};
use crate::store::sql::{self, Parameter};
use crate::store::{clock, snapshot};
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;

/// The tables, and per statement what of their rows is due at $2, at most $1 of them. Rows that
/// somebody is writing are left for the next time.
const TABLES: [&str; 2] = ["record", "record_logged"];

const DELETE: &str = "DELETE FROM idempotent.{table} AS r";
const EVICT: &str = "UPDATE idempotent.{table} AS r SET response = NULL, headers = NULL, \
    body = NULL, evicted = true, sweep_at = r.expires_at";
const DUE: &str = " WHERE r.ctid OPERATOR(pg_catalog.=) ANY (ARRAY( \
    SELECT c.ctid FROM idempotent.{table} AS c \
    WHERE c.sweep_at OPERATOR(pg_catalog.<=) $2 AND {due} \
    ORDER BY c.sweep_at LIMIT $1 FOR UPDATE SKIP LOCKED))";
/// Never a lease that lasts, nor what is unknown.
const EXPIRED: &str = "c.expires_at OPERATOR(pg_catalog.<=) $2 \
    AND c.state OPERATOR(pg_catalog.<>) 'u'::\"char\" \
    AND (c.lease_until IS NULL OR c.lease_until OPERATOR(pg_catalog.<=) $2)";
const PAST_RESPONSE_RETENTION: &str = "c.expires_at OPERATOR(pg_catalog.>) $2 \
    AND c.finished_at IS NOT NULL";

pub fn idempotent_sweep(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_sweep()");
    let limit = match args.int4(0) {
        None => i64::MAX,
        Some(rows) if rows > 0 => i64::from(rows),
        Some(_) => {
            return Err(Error::new(Code::InvalidParameter, "max_rows must be at least 1")
                .hint("Leave it out to sweep everything that is due."));
        }
    };
    Ok(Some(Datum::from(sweep(limit)?)))
}

fn sweep(limit: i64) -> Result<i64> {
    let now = clock::now();
    let mut done = 0;
    for (statement, due) in [(DELETE, EXPIRED), (EVICT, PAST_RESPONSE_RETENTION)] {
        for table in TABLES {
            let rest = limit - done;
            if rest == 0 {
                return Ok(done);
            }
            let statement =
                format!("{statement}{DUE}").replace("{table}", table).replace("{due}", due);
            let parameters: [Parameter; 2] = [
                (pg_sys::INT8OID, Some(Datum::from(rest))),
                (pg_sys::TIMESTAMPTZOID, Some(Datum::from(now))),
            ];
            done += i64::try_from(sql::execute(&statement, &parameters)?).unwrap_or(0);
        }
    }
    Ok(done)
}
