//! What an operation has forgotten under earlier settings: `idempotent.earlier_retention`.
//!
//! Its lines are written by a trigger of the settings (sql/60_settings.sql), so that a change counts
//! however it is made.

use crate::pg::datum::interval;
use crate::pg::datum::row::Columns;
use crate::pg::datum::text::Text;
use crate::pg::rights::OwnerRights;
use crate::pg::{snapshot, spi};
use crate::session::transaction;
use crate::tables::{catalog, open};
use pgrx::pg_sys;
use rules::error::{Code, Error, Result};
use rules::policy::Earlier;

/// Columns of the table, in order (sql/12_earlier.sql).
mod column {
    use pgrx::pg_sys;

    pub const UNTIL: usize = 1;
    pub const KEPT: usize = 2;
    pub const TYPES: &[pg_sys::Oid] =
        &[pg_sys::TEXTOID, pg_sys::TIMESTAMPTZOID, pg_sys::INTERVALOID];
}

/// What is noted of an operation; of most, nothing.
pub fn of(operation: &Text<'_>) -> Result<Vec<Earlier>> {
    let table = open::to_read(column::TYPES, |catalog| catalog.earlier)?;
    let mut found = Vec::new();
    // SAFETY: text, as the first column of the primary key is; the columns are read as they are
    // declared, while the tuple is pinned.
    unsafe {
        table.scan(pg_sys::F_TEXTEQ, operation.datum, |tuple| {
            let columns = Columns::of(tuple, table.descriptor());
            let kept = columns.get(column::KEPT).and_then(|kept| interval::micros(kept));
            if let (Some(until), Some(kept)) = (columns.get(column::UNTIL), kept) {
                found.push(Earlier { until: until.value() as i64, kept });
            }
            None::<()>
        });
    }
    table.give_back();
    Ok(found)
}

/// Until the change commits, others store what they claim under the settings that are about to end, and calls that run then a
/// moment longer; and what they store may have a date that is ahead, by no more than it is kept.
const END: &str = "
UPDATE idempotent.earlier_retention AS e
   SET until = pg_catalog.clock_timestamp()
       OPERATOR(pg_catalog.+) GREATEST(pg_catalog.current_setting('idempotent.clock_skew')::pg_catalog.interval, e.kept)
       OPERATOR(pg_catalog.+) '1 second'::pg_catalog.interval
 WHERE e.until OPERATOR(pg_catalog.=) 'infinity'::pg_catalog.timestamptz";

const UNENDED: &str = "
SELECT e.operation FROM idempotent.earlier_retention AS e
 WHERE e.until OPERATOR(pg_catalog.=) 'infinity'::pg_catalog.timestamptz";

/// The settings that this transaction changes end when it commits.
pub fn end_with_transaction() {
    transaction::do_last(end);
}

fn end(is_prepared: bool) -> Result<()> {
    // The transaction may have dropped the extension.
    if catalog::get().is_err() {
        return Ok(());
    }
    snapshot::with_one(|| end_all(is_prepared))
}

fn end_all(is_prepared: bool) -> Result<()> {
    let table = open::to_write(column::TYPES, |catalog| catalog.earlier)?;
    // SAFETY: `table` is open until the end of this function, which the rights do not outlive.
    let _rights = unsafe { OwnerRights::of(table.raw) };
    if !is_prepared {
        return spi::execute(END, &[]).map(drop);
    }
    let Some(operation) = spi::texts(UNENDED, &[])?.into_iter().next() else { return Ok(()) };
    Err(Error::new(Code::FeatureNotSupported, "cannot PREPARE a transaction that has changed for how long records are kept")
        .detail(format!("What operation \"{operation}\" has forgotten until the change commits is known at COMMIT only."))
        .hint("Change its settings in a transaction of its own, and COMMIT that."))
}
