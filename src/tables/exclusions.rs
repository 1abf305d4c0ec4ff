//! The sets of exclusions that an operation has and had, by number: `idempotent.exclusion`, written by a
//! trigger of the settings.

use crate::pg::datum::array;
use crate::pg::datum::row::Columns;
use crate::pg::datum::text::Text;
use crate::tables::open;
use pgrx::pg_sys;
use rules::error::Result;
use rules::policy::Policy;
use rules::request::exclude::Exclusions;
use rules::request::fingerprint::LAST_SET;

/// Columns of the table, in order (sql/12_earlier.sql).
mod column {
    use pgrx::pg_sys;

    pub const NUMBER: usize = 1;
    pub const MEMBERS: usize = 2;
    pub const TYPES: &[pg_sys::Oid] = &[pg_sys::TEXTOID, pg_sys::INT2OID, pg_sys::TEXTARRAYOID];
}

/// The policy with the number of its set, and all other sets.
pub fn numbered(policy: Policy, operation: &Text<'_>) -> Result<Policy> {
    let mut sets = stored(operation)?;
    sets.push((0, Exclusions::default()));
    // A set without a number is compared with nothing but itself.
    let current = sets.iter().find(|(_, members)| *members == policy.exclude);
    let exclusion_set = current.map_or(LAST_SET, |(number, _)| *number);
    Ok(Policy { exclusion_set, earlier_exclusions: sets, ..policy })
}

fn stored(operation: &Text<'_>) -> Result<Vec<(i16, Exclusions)>> {
    let table = open::to_read(column::TYPES, |catalog| catalog.exclusions)?;
    let mut found = Vec::new();
    // SAFETY: text, as the first column of the primary key is; the columns are read as they are
    // declared, while the tuple is pinned, and what is kept is copied.
    unsafe {
        table.scan(pg_sys::F_TEXTEQ, operation.datum, |tuple| {
            let columns = Columns::of(tuple, table.descriptor());
            let number = columns.get(column::NUMBER).map(|number| number.value() as i16);
            let members = columns.get(column::MEMBERS).map(|members| array::owned(members));
            if let (Some(number), Some(members)) = (number, members) {
                found.push(members.map(|members| (number, members)));
            }
            None::<()>
        });
    }
    table.give_back();
    let found = found.into_iter().collect::<Result<Vec<_>>>()?;
    // One that was written past the settings may be none, and nothing was stored with it.
    let parse = |(number, members)| {
        Exclusions::parse::<Vec<u8>>(members).ok().map(|members| (number, members))
    };
    Ok(found.into_iter().filter_map(parse).collect())
}
