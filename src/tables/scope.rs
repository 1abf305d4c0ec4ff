//! All that is kept of one owner, in every table that has owners. No index leads to it: the tables are read as
//! a whole.

use crate::pg::datum::text::Text;
use crate::pg::rights::OwnerRights;
use crate::pg::spi;
use crate::tables::open;
use crate::tables::records::row::column;
use pgrx::pg_sys;
use rules::error::Result;
use rules::policy::Durability;

/// A table, which of its rows are the owner's, and which of these are held.
struct Owned {
    table: &'static str,
    is_owned: &'static str,
    is_held: &'static str,
}

const OF_SCOPE: &str = "r.scope = $1";
/// The owner of a message is its scope, and that of one without a scope is its key.
const OF_SCOPE_OR_KEY: &str = "(r.scope = $1 OR r.scope = '' AND r.key = $1)";
const NEVER: &str = "false";
const LEASED: &str = "r.lease_until > pg_catalog.clock_timestamp()";

const OWNED: [Owned; 9] = [
    Owned { table: "record", is_owned: OF_SCOPE, is_held: LEASED },
    Owned { table: "record_logged", is_owned: OF_SCOPE, is_held: LEASED },
    Owned { table: "asked", is_owned: OF_SCOPE, is_held: NEVER },
    Owned { table: "messages", is_owned: OF_SCOPE, is_held: NEVER },
    Owned { table: "offsets", is_owned: OF_SCOPE, is_held: NEVER },
    Owned {
        table: "locks",
        is_owned: OF_SCOPE,
        is_held: "r.expires_at > pg_catalog.clock_timestamp()",
    },
    // What is not finished is to be undone first.
    Owned { table: "saga_run", is_owned: OF_SCOPE, is_held: "r.expires_at IS NULL" },
    Owned { table: "outbox_message", is_owned: OF_SCOPE_OR_KEY, is_held: LEASED },
    Owned { table: "outbox_dead", is_owned: OF_SCOPE_OR_KEY, is_held: NEVER },
];

/// Ids of messages go with their messages; what is left are those of acknowledged ones.
const IDS: Owned = Owned {
    table: "outbox_id",
    is_owned: OF_SCOPE_OR_KEY,
    is_held: "r.expires_at = 'infinity'::timestamptz",
};

/// Rows that were deleted, and rows that are held.
#[derive(Clone, Copy, Default)]
pub struct Forgotten {
    pub rows: i64,
    pub held: i64,
}

/// Deletes what is kept of an owner, but nothing that is held, or that a transaction has locked.
pub fn forget(scope: &Text<'_>) -> Result<Forgotten> {
    let records = Durability::Logged;
    let table = open::to_write(column::TYPES, |catalog| catalog.records(records))?;
    // SAFETY: `table` is open until the end of this function, which the rights do not outlive.
    let _rights = unsafe { OwnerRights::of(table.raw) };
    let mut forgotten = Forgotten::default();
    for owned in &OWNED {
        let of_table = owned.forget(scope)?;
        forgotten.rows += of_table.rows;
        forgotten.held += of_table.held;
    }
    // Not counted as held: an id is that of a message that is.
    forgotten.rows += IDS.forget(scope)?.rows;
    Ok(forgotten)
}

impl Owned {
    fn forget(&self, scope: &Text<'_>) -> Result<Forgotten> {
        let Self { table, is_owned, is_held } = self;
        let sql = format!(
            "WITH free AS MATERIALIZED (
                 SELECT r.ctid AS place FROM idempotent.{table} AS r
                 WHERE {is_owned} AND ({is_held}) IS NOT TRUE FOR UPDATE OF r SKIP LOCKED
             ), gone AS (
                 DELETE FROM idempotent.{table} AS d USING free AS f WHERE d.ctid = f.place RETURNING 1
             ), there AS (
                 SELECT pg_catalog.count(*) AS rows FROM idempotent.{table} AS r WHERE {is_owned}
             )
             SELECT g.rows, t.rows - g.rows FROM there AS t, (SELECT pg_catalog.count(*) AS rows FROM gone) AS g"
        );
        let counted = spi::row::<2>(&sql, &[(pg_sys::TEXTOID, Some(scope.datum))])?;
        let number = |datum: Option<pg_sys::Datum>| datum.map_or(0, |datum| datum.value() as i64);
        Ok(counted.map_or_else(Forgotten::default, |[rows, held]| Forgotten {
            rows: number(rows),
            held: number(held),
        }))
    }
}
