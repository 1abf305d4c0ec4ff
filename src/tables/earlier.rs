//! What an operation has forgotten under earlier settings: `idempotent.earlier_retention`.
//!
//! Its lines are written by a trigger of the settings (sql/60_settings.sql), so that a change counts
//! however it is made.

use crate::pg::datum::interval;
use crate::pg::datum::row::Columns;
use crate::pg::datum::text::Text;
use crate::tables::open;
use pgrx::pg_sys;
use rules::error::Result;
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
