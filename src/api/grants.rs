//! `idempotent_grant` and `idempotent_revoke`: who may call the caller's functions.

use crate::pg::arguments::{Args, Returned};
use crate::pg::datum::make;
use crate::pg::declaration::arguments;
use crate::pg::spi;
use crate::tables::audit::{self, Deed};
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::error::{Code, Error, Result};

arguments! {
    GRANT: Grant = "idempotent_grant" {
        role: Regrole,
    }
    REVOKE: Revoke = "idempotent_revoke" {
        role: Regrole,
    }
}

/// What callers are granted: named one by one, so that nothing is granted by being added.
const CALLERS_FUNCTIONS: &str = "{idempotent_claim,idempotent_complete,idempotent_fail,\
    idempotent_release,idempotent_extend,idempotent_extend_all,idempotent_check,idempotent_checkpoint,idempotent_replay,idempotent_run,\
    idempotent_explain,idempotent_new_key,idempotent_request_key,idempotent_derive_key,\
    idempotent_shard,idempotent_first,idempotent_first_of,idempotent_advance,idempotent_lock,idempotent_unlock,\
    idempotent_outbox_put,idempotent_saga_run,idempotent_saga_step}";

/// Those functions, and the type that they return, as GRANT names them.
const CALLERS_OBJECTS: &str = "
SELECT CASE WHEN d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::regclass
            THEN 'ROUTINE ' ELSE 'TYPE ' END
       OPERATOR(pg_catalog.||) (pg_catalog.pg_identify_object(d.classid, d.objid, 0)).identity
FROM pg_catalog.pg_depend AS d
JOIN pg_catalog.pg_extension AS e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
LEFT JOIN pg_catalog.pg_proc AS p
       ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::regclass
      AND p.oid OPERATOR(pg_catalog.=) d.objid
LEFT JOIN pg_catalog.pg_type AS t
       ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::regclass
      AND t.oid OPERATOR(pg_catalog.=) d.objid
WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::regclass
  AND d.deptype OPERATOR(pg_catalog.=) 'e'
  AND e.extname OPERATOR(pg_catalog.=) 'pg_idempotent'
  AND (t.typname OPERATOR(pg_catalog.=) 'idempotent_result'
       OR p.pronamespace OPERATOR(pg_catalog.=) e.extnamespace
      AND p.proname OPERATOR(pg_catalog.=) ANY ($1::name[]))
ORDER BY 1";

const SCHEMA: &str = "
SELECT pg_catalog.quote_ident(n.nspname)
FROM pg_catalog.pg_extension AS e
JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
WHERE e.extname OPERATOR(pg_catalog.=) 'pg_idempotent'";

/// One grant or revocation at a time: two that write the same catalog rows at once end in Postgres'
/// "tuple concurrently updated". A session that uses the operations, or changes their settings, waits for
/// nothing.
const ONE_AT_A_TIME: &str = "LOCK TABLE idempotent.operation IN SHARE UPDATE EXCLUSIVE MODE";

pub fn idempotent_grant(args: &Args) -> Returned {
    let role = role(args.get(GRANT.role))?;
    spi::execute(ONE_AT_A_TIME, &[])?;
    for schema in spi::texts(SCHEMA, &[])? {
        spi::execute(&format!("GRANT USAGE ON SCHEMA {schema} TO {role}"), &[])?;
    }
    for object in callers_objects()? {
        let privilege = privilege(&object);
        spi::execute(&format!("GRANT {privilege} ON {object} TO {role}"), &[])?;
    }
    let detail = Some(audit::detail(&role));
    audit::note_of_client(&Deed { action: "grant", detail, ..Deed::default() })?;
    Ok(Some(Datum::from(0)))
}

/// The schema stays usable: others may have granted it, for other reasons.
pub fn idempotent_revoke(args: &Args) -> Returned {
    let role = role(args.get(REVOKE.role))?;
    spi::execute(ONE_AT_A_TIME, &[])?;
    for object in callers_objects()? {
        let privilege = privilege(&object);
        spi::execute(&format!("REVOKE {privilege} ON {object} FROM {role}"), &[])?;
    }
    let detail = Some(audit::detail(&role));
    audit::note_of_client(&Deed { action: "revoke", detail, ..Deed::default() })?;
    Ok(Some(Datum::from(0)))
}

fn callers_objects() -> Result<Vec<String>> {
    let functions = make::text(CALLERS_FUNCTIONS);
    spi::texts(CALLERS_OBJECTS, &[(pg_sys::TEXTOID, Some(functions))])
}

fn privilege(object: &str) -> &'static str {
    if object.starts_with("TYPE") { "USAGE" } else { "EXECUTE" }
}

/// The role's name, quoted.
fn role(given: Option<pg_sys::Oid>) -> Result<String> {
    let no_role = || {
        Error::new(Code::InvalidParameter, "role must be an existing role")
            .hint("Pass its name, e.g. SELECT idempotent_grant('app').")
    };
    let role = given.ok_or_else(no_role)?;
    let names = spi::texts(
        "SELECT pg_catalog.quote_ident(r.rolname) FROM pg_catalog.pg_roles AS r \
         WHERE r.oid OPERATOR(pg_catalog.=) $1",
        &[(pg_sys::OIDOID, Some(Datum::from(role)))],
    )?;
    names.into_iter().next().ok_or_else(no_role)
}
