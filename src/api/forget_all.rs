//! `idempotent_forget_all`: an operation without its records, to start over.

use crate::api::consumer::checked;
use crate::keys::call::check_role;
use crate::pg::arguments::{Args, Returned};
use crate::pg::declaration::arguments;
use crate::pg::rights::OwnerRights;
use crate::pg::{snapshot, spi};
use crate::tables::asked;
use crate::tables::audit::{self, Deed};
use crate::tables::configuring::Configuring;
use crate::tables::open;
use crate::tables::operations;
use crate::tables::records::row::column;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::names::OPERATION;
use rules::policy::Durability;

arguments! {
    FORGET_ALL: ForgetAll = "idempotent_forget_all" {
        operation: Text,
    }
}

/// Deletes all records of the operation, in both tables; how many there were. No loss is noted: it is
/// wanted. The holder of a lease finds it lost; what a transaction has not yet stored stays.
pub fn idempotent_forget_all(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_forget_all()");
    let name = checked(&OPERATION, args.get(FORGET_ALL.operation))?;
    check_role(&operations::get(&name)?.policy, name.utf8)?;
    snapshot::refuse_frozen("an operation can only be emptied")?;
    let _configuring = Configuring::begin();
    let mut forgotten = 0;
    for durability in Durability::ALL {
        let table = open::to_write(column::TYPES, |catalog| catalog.records(durability))?;
        // SAFETY: `table` is open until the end of the loop's body, which the rights do not outlive.
        let _rights = unsafe { OwnerRights::of(table.raw) };
        let records = match durability {
            Durability::Unlogged => "record",
            Durability::Logged => "record_logged",
        };
        forgotten += spi::execute(
            &format!("DELETE FROM idempotent.{records} AS r WHERE r.operation = $1"),
            &[(pg_sys::TEXTOID, Some(name.datum))],
        )?;
    }
    asked::forget_all(name.datum)?;
    audit::note(&Deed {
        action: "forget_all",
        operation: Some(name.datum),
        detail: Some(audit::detail(&format!("{forgotten} records"))),
        ..Deed::default()
    })?;
    Ok(Some(Datum::from(i64::try_from(forgotten).unwrap_or(i64::MAX))))
}
