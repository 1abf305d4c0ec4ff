//! How far consumers have come: `idempotent.offsets`.

use crate::pg::datum::make;
use crate::pg::datum::row::Columns;
use crate::pg::datum::text::Text;
use crate::pg::prepared::Prepared;
use crate::pg::rights::OwnerRights;
use crate::pg::snapshot;
use crate::pg::spi::{self, Parameter};
use crate::pg::table::lookup::{self, Key, RowState};
use crate::pg::table::relation::Relation;
use crate::tables::{open, own};
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::error::Result;
use rules::slot;

/// Columns of the table, in order (sql/52_offsets.sql).
mod column {
    use pgrx::pg_sys;

    pub const OFFSET: usize = 0;
    pub const CONSUMER: usize = 3;
    pub const SCOPE: usize = 4;
    pub const PARTITION: usize = 5;
    pub const TYPES: &[pg_sys::Oid] = &[
        pg_sys::INT8OID,
        pg_sys::TIMESTAMPTZOID,
        pg_sys::INT2OID,
        pg_sys::TEXTOID,
        pg_sys::TEXTOID,
        pg_sys::TEXTOID,
    ];
}

/// What lies before the stored offset is answered by a look, and locks nothing. Otherwise the row is
/// locked, and the stored offset is looked at again as it is then.
const ADVANCE: &str = "
INSERT INTO idempotent.offsets AS o (consumer, scope, partition, \"offset\", slot, advanced_at)
SELECT $1, $2, $3, $4, $5, pg_catalog.clock_timestamp()
WHERE NOT EXISTS (
    SELECT FROM idempotent.offsets AS s
    WHERE s.consumer = $1 AND s.scope = $2
      AND s.partition = $3 AND s.\"offset\" >= $4)
ON CONFLICT ON CONSTRAINT offsets_pkey DO UPDATE
SET \"offset\" = excluded.\"offset\", advanced_at = excluded.advanced_at
WHERE o.\"offset\" < excluded.\"offset\"";

/// The row is locked: nothing is changed that has not been seen. One that another transaction has locked is left.
const REWIND: &str = "
WITH seen AS (
    SELECT s.\"offset\" FROM idempotent.offsets AS s
    WHERE s.consumer = $1 AND s.scope = $2 AND s.partition = $3 AND s.\"offset\" > $4
    FOR UPDATE OF s SKIP LOCKED
)
UPDATE idempotent.offsets AS o SET \"offset\" = $4, advanced_at = pg_catalog.clock_timestamp()
FROM seen WHERE o.consumer = $1 AND o.scope = $2 AND o.partition = $3
RETURNING seen.\"offset\"";

const FORGET: &str = "
WITH seen AS (
    SELECT s.\"offset\" FROM idempotent.offsets AS s
    WHERE s.consumer = $1 AND s.scope = $2 AND s.partition = $3
    FOR UPDATE OF s SKIP LOCKED
)
DELETE FROM idempotent.offsets AS o
USING seen WHERE o.consumer = $1 AND o.scope = $2 AND o.partition = $3
RETURNING seen.\"offset\"";

/// What was left, and the process that has locked it; null if several have, or none is there any more, as of a prepared transaction.
const LEFT: &str = "
SELECT (SELECT l.pid FROM pg_locks AS l
        WHERE l.locktype = 'transactionid' AND l.transactionid = s.xmax AND l.granted AND l.mode = 'ExclusiveLock')
FROM idempotent.offsets AS s
WHERE s.consumer = $1 AND s.scope = $2 AND s.partition = $3 AND ($4 IS NULL OR s.\"offset\" > $4)";

thread_local! {
    static STATEMENT: Prepared = const {
        Prepared::new(ADVANCE, &[pg_sys::TEXTOID, pg_sys::TEXTOID, pg_sys::TEXTOID, pg_sys::INT8OID, pg_sys::INT2OID])
    };
}

/// Moves a stored offset forward; whether it did. One that is there already, or lies before it,
/// stays.
///
/// # Errors
/// ID010 for an owner of another node. 40001 under REPEATABLE READ and above if another transaction has moved it since the transaction's snapshot.
pub fn advance(
    consumer: &Text<'_>,
    scope: &Text<'_>,
    partition: &Text<'_>,
    offset: i64,
) -> Result<bool> {
    let table = open::to_write(column::TYPES, |catalog| catalog.offsets)?;
    own::check(scope.utf8, partition.utf8)?;
    // SAFETY: `table` is open until the end of this function, which the rights do not outlive.
    let _rights = unsafe { OwnerRights::of(table.raw) };
    let slot = make::slot(slot::of(slot::owner(scope.utf8, partition.utf8)));
    let values = [consumer.datum, scope.datum, partition.datum, Datum::from(offset), slot];
    Ok(STATEMENT.with(|statement| statement.execute(&values))? > 0)
}

/// Whether another transaction is moving the offset, or storing the first one: it may yet roll back.
pub fn is_moving(consumer: &Text<'_>, scope: &Text<'_>, partition: &Text<'_>) -> Result<bool> {
    let table = open::to_write(column::TYPES, |catalog| catalog.offsets)?;
    let state = lookup::dirty(&table, key_of([consumer, scope, partition])).state;
    Ok(matches!(state, RowState::Arriving | RowState::Leaving))
}

/// What became of a stored offset that is to be set back or removed.
pub enum Changed {
    /// It is; `None`: there was none, or none that lies beyond the new one.
    Done(Option<i64>),
    /// Another transaction has locked its row: the process, if that can be told.
    Locked(Option<i32>),
}

/// Sets a stored offset back; tells the one that was stored.
///
/// # Errors
/// 40001 under REPEATABLE READ and above if another transaction has moved it since the transaction's snapshot.
pub fn rewind(
    consumer: &Text<'_>,
    scope: &Text<'_>,
    partition: &Text<'_>,
    offset: i64,
) -> Result<Changed> {
    change(REWIND, [consumer, scope, partition], Some(offset))
}

/// Removes a stored offset, and tells it.
pub fn forget(consumer: &Text<'_>, scope: &Text<'_>, partition: &Text<'_>) -> Result<Changed> {
    change(FORGET, [consumer, scope, partition], None)
}

fn key_of([consumer, scope, partition]: [&Text<'_>; 3]) -> Key {
    Key::texts(&[
        (column::CONSUMER, consumer.datum),
        (column::SCOPE, scope.datum),
        (column::PARTITION, partition.datum),
    ])
}

fn change(sql: &str, names: [&Text<'_>; 3], to: Option<i64>) -> Result<Changed> {
    let table = open::to_write(column::TYPES, |catalog| catalog.offsets)?;
    // SAFETY: `table` is open until the end of this function, which the rights do not outlive.
    let _rights = unsafe { OwnerRights::of(table.raw) };
    let [consumer, scope, partition]: [Parameter; 3] =
        names.map(|name| (pg_sys::TEXTOID, Some(name.datum)));
    let parameters = [consumer, scope, partition, (pg_sys::INT8OID, to.map(Datum::from))];
    let used = if to.is_some() { &parameters[..] } else { &parameters[..3] };
    if let Some([before]) = spi::row(sql, used)? {
        return Ok(Changed::Done(before.map(|offset| offset.value() as i64)));
    }
    let left = spi::row(LEFT, &parameters)?;
    if let Some([process]) = left {
        return Ok(Changed::Locked(process.map(|process| process.value() as i32)));
    }
    if snapshot::is_frozen() {
        check_absent(&table, names, to)?;
    }
    Ok(Changed::Done(None))
}

/// That there is no stored offset, or none that lies beyond the new one, where the statement's snapshot shows none.
fn check_absent(table: &Relation, names: [&Text<'_>; 3], to: Option<i64>) -> Result<()> {
    let tuple = lookup::current(table, key_of(names));
    if tuple.is_null() {
        return Ok(());
    }
    // SAFETY: the tuple is a copy of a row of the table, whose columns are those that `column` names: `open` has
    // compared their types.
    let stored = unsafe { Columns::of(tuple, table.descriptor()) }.get(column::OFFSET);
    let stored = stored.map(|offset| offset.value() as i64);
    if stored.is_some_and(|stored| to.is_none_or(|to| stored > to)) {
        let [consumer, scope, partition] = names.map(|name| String::from_utf8_lossy(name.utf8));
        let owner =
            format!("consumer \"{consumer}\", scope \"{scope}\", partition \"{partition}\"");
        return Err(snapshot::is_too_old("offset", &owner));
    }
    Ok(())
}
