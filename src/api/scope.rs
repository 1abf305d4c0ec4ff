//! `idempotent_forget_scope` and `idempotent_export_scope`: all that is kept of one owner.

use crate::api::consumer::checked;
use crate::pg::arguments::{Args, Returned};
use crate::pg::datum::text::Text as TextValue;
use crate::pg::declaration::arguments;
use crate::pg::pass_on::pass_on;
use crate::pg::snapshot;
use crate::tables::audit::{self, Deed};
use crate::tables::configuring::Configuring;
use crate::tables::scope::{Forgotten, forget};
use pgrx::pg_sys::Datum;
use rules::error::{Code, Error, Result};
use rules::names::SCOPE;

arguments! {
    FORGET: ForgetScope = "idempotent_forget_scope" { scope: Text }
    EXPORT: ExportScope = "idempotent_export_scope" { scope: Text }
}

/// No loss is noted: it is wanted.
pub fn idempotent_forget_scope(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_forget_scope()");
    let scope = named(args.get(FORGET.scope))?;
    snapshot::refuse_frozen("what is kept of a scope can only be deleted")?;
    let Forgotten { rows, held } = {
        let _configuring = Configuring::begin();
        forget(&scope)?
    };
    note("forget_scope", &scope, Some(&format!("{rows} rows, {held} held")))?;
    args.return_row(&[Some(Datum::from(rows)), Some(Datum::from(held))])
}

pub fn idempotent_export_scope(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_export_scope()");
    let scope = named(args.get(EXPORT.scope))?;
    let exported = pass_on(args, c"idempotent", c"export_scope")?;
    note("export_scope", &scope, None)?;
    Ok(exported)
}

/// # Errors
/// ID006 for what is no scope; 22023 for the scope of all that has no owner.
fn named(scope: Option<TextValue<'_>>) -> Result<TextValue<'_>> {
    let scope = checked(&SCOPE, scope)?;
    if scope.utf8.is_empty() {
        return Err(Error::new(Code::InvalidParameter, "scope must not be empty")
            .detail("The empty scope is that of all keys without an owner.")
            .hint(
                "To forget the records of an operation: SELECT idempotent_forget_all(operation).",
            ));
    }
    Ok(scope)
}

fn note(action: &str, scope: &TextValue<'_>, detail: Option<&str>) -> Result<()> {
    let scope = Some(scope.datum);
    audit::note(&Deed { action, scope, detail: detail.map(audit::detail), ..Deed::default() })
}
