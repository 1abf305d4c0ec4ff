//! Whether tables and indexes are what they should be, as amcheck finds: every tuple readable, every one in its indexes.

use postgres::{Client, Error};

/// Our own relations, and what belongs to them; those of an extension that is not there are none.
const OURS: &str = "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = 'idempotent' AND c.relkind = 'r' AND NOT pg_is_in_recovery()";

/// Looks at the extension's relations in the database of the connection; what is wrong with them.
///
/// # Errors
/// That of an index that is not what it should be, too.
pub fn flaws(client: &mut Client) -> Result<Vec<String>, Error> {
    // Nobody holds a lock for long any more; who does is a flaw in itself.
    client.batch_execute("SET lock_timeout = '30s'; CREATE EXTENSION IF NOT EXISTS amcheck")?;
    client.batch_execute(&format!(
        "SELECT bt_index_parent_check(i.indexrelid, true, true) FROM pg_index i
         WHERE i.indrelid IN ({OURS})
            OR i.indrelid IN (SELECT reltoastrelid FROM pg_class WHERE oid IN ({OURS}))"
    ))?;
    let corrupt = format!(
        "SELECT format('%s, block %s: %s', r.oid::regclass, v.blkno, v.msg)
         FROM ({OURS}) AS r, verify_heapam(r.oid) AS v"
    );
    Ok(client.query(&corrupt, &[])?.iter().map(|row| row.get(0)).collect())
}
