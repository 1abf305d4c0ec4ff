//! `idempotent_grant` and `idempotent_revoke`: the roles that may call the caller's functions.

use crate::pg::arguments::{Args, Returned};
use crate::pg::datum::make;
use crate::pg::declaration::arguments;
use crate::pg::spi::{self, Parameter};
use crate::tables::audit::{self, Deed};
use crate::tables::catalog;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};
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
pub const CALLERS_FUNCTIONS: &str = "{idempotent_claim,idempotent_complete,idempotent_fail,\
    idempotent_release,idempotent_extend,idempotent_extend_all,idempotent_check,idempotent_checkpoint,idempotent_replay,idempotent_run,\
    idempotent_http_claim,idempotent_http_complete,\
    idempotent_explain,idempotent_new_key,idempotent_request_key,idempotent_derive_key,\
    idempotent_slot,idempotent_shard,idempotent_first,idempotent_first_of,idempotent_first_skip_held,idempotent_advance,idempotent_lock,idempotent_unlock,\
    idempotent_outbox_put,idempotent_saga_run,idempotent_saga_step}";

/// Those functions, and the type that they return, as GRANT names them.
const CALLERS_OBJECTS: &str = "
SELECT CASE WHEN d.classid = 'pg_catalog.pg_proc'::regclass
            THEN 'ROUTINE ' ELSE 'TYPE ' END
       || (pg_catalog.pg_identify_object(d.classid, d.objid, 0)).identity
FROM pg_catalog.pg_depend AS d
JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid
LEFT JOIN pg_catalog.pg_proc AS p
       ON d.classid = 'pg_catalog.pg_proc'::regclass
      AND p.oid = d.objid
LEFT JOIN pg_catalog.pg_type AS t
       ON d.classid = 'pg_catalog.pg_type'::regclass
      AND t.oid = d.objid
WHERE d.refclassid = 'pg_catalog.pg_extension'::regclass
  AND d.deptype = 'e'
  AND e.extname = 'pg_idempotent'
  AND (t.typname = 'idempotent_result'
       OR p.pronamespace = e.extnamespace
      AND p.proname = ANY ($1::name[]))
ORDER BY 1";

/// The functions' schema, if neither the role nor PUBLIC has USAGE on it.
const CLOSED_SCHEMA: &str = "
SELECT pg_catalog.quote_ident(n.nspname)
FROM pg_catalog.pg_extension AS e
JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'pg_idempotent'
  AND NOT EXISTS (
      SELECT FROM pg_catalog.aclexplode(COALESCE(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) AS a
      WHERE a.privilege_type = 'USAGE'
        AND a.grantee = ANY (ARRAY[0::pg_catalog.oid, $1]))";

/// What was given is noted, because the catalog does not tell whose USAGE it is.
const NOTE: &str = "
INSERT INTO idempotent.usage_granted (role)
SELECT r.rolname FROM pg_catalog.pg_roles AS r WHERE r.oid = $1
ON CONFLICT DO NOTHING";

/// The functions' schema, if `idempotent_grant` has given the role USAGE on it; that is forgotten.
const GIVEN_SCHEMA: &str = "
WITH noted AS (
    DELETE FROM idempotent.usage_granted AS g USING pg_catalog.pg_roles AS r
    WHERE r.oid = $1 AND g.role = r.rolname
    RETURNING g.role
)
SELECT pg_catalog.quote_ident(n.nspname)
FROM noted, pg_catalog.pg_extension AS e
JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'pg_idempotent'";

/// One grant or revocation at a time: two that write the same catalog rows at once end in Postgres'
/// "tuple concurrently updated". A session that uses the operations, or changes their settings, waits for
/// nothing.
const ONE_AT_A_TIME: &str = "LOCK TABLE idempotent.operation IN SHARE UPDATE EXCLUSIVE MODE";

pub fn idempotent_grant(args: &Args) -> Returned {
    // What follows is SQL, which would find out in its own words that the schema is of another version.
    catalog::get()?;
    let role = role(args.get(GRANT.role))?;
    let given = parameter(args.get(GRANT.role));
    spi::execute(ONE_AT_A_TIME, &[])?;
    for schema in spi::texts(CLOSED_SCHEMA, &given)? {
        spi::execute(&format!("GRANT USAGE ON SCHEMA {schema} TO {role}"), &[])?;
        spi::execute(NOTE, &given)?;
    }
    for object in callers_objects()? {
        let privilege = privilege(&object);
        spi::execute(&format!("GRANT {privilege} ON {object} TO {role}"), &[])?;
    }
    let detail = Some(audit::detail(&role));
    audit::note_of_client(&Deed { action: "grant", detail, ..Deed::default() })?;
    Ok(Some(Datum::from(0)))
}

/// Of whom the role still has rights: what a role has passed on is taken back by nobody else.
const PASSED_ON_BY: &str = "
SELECT DISTINCT g.passed_on_by FROM idempotent.rights AS g
JOIN pg_catalog.pg_roles AS r ON r.rolname = g.role
WHERE r.oid = $1 AND g.granted_as = 'caller' AND g.passed_on_by IS NOT NULL
ORDER BY 1";

/// USAGE on the schema that somebody else has granted stays: it may be for other reasons. A role that could pass
/// rights on loses them together with those that it has passed them on to.
pub fn idempotent_revoke(args: &Args) -> Returned {
    catalog::get()?;
    let role = role(args.get(REVOKE.role))?;
    spi::execute(ONE_AT_A_TIME, &[])?;
    for object in callers_objects()? {
        let privilege = privilege(&object);
        spi::execute(&format!("REVOKE {privilege} ON {object} FROM {role} CASCADE"), &[])?;
    }
    for schema in spi::texts(GIVEN_SCHEMA, &parameter(args.get(REVOKE.role)))? {
        spi::execute(&format!("REVOKE USAGE ON SCHEMA {schema} FROM {role}"), &[])?;
    }
    let detail = Some(audit::detail(&role));
    audit::note_of_client(&Deed { action: "revoke", detail, ..Deed::default() })?;
    for other in spi::texts(PASSED_ON_BY, &parameter(args.get(REVOKE.role)))? {
        warn_of_rights_passed_on(&role, &other);
    }
    Ok(Some(Datum::from(0)))
}

fn warn_of_rights_passed_on(role: &str, by: &str) {
    let message = format!("role {role} still has rights that another role has passed on");
    ErrorReport::new(PgSqlErrorCode::ERRCODE_WARNING, message, "idempotent_revoke")
        .set_detail(format!("Role \"{by}\" was granted them with GRANT OPTION."))
        .set_hint("SELECT remedy FROM idempotent_doctor() WHERE problem = 'surplus_right' shows the statement that takes that option back, and what was passed on by it.")
        .report(PgLogLevel::WARNING);
}

fn callers_objects() -> Result<Vec<String>> {
    let functions = make::text(CALLERS_FUNCTIONS);
    spi::texts(CALLERS_OBJECTS, &[(pg_sys::TEXTOID, Some(functions))])
}

fn privilege(object: &str) -> &'static str {
    if object.starts_with("TYPE") { "USAGE" } else { "EXECUTE" }
}

fn parameter(role: Option<pg_sys::Oid>) -> [Parameter; 1] {
    [(pg_sys::OIDOID, role.map(Datum::from))]
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
         WHERE r.oid = $1",
        &parameter(Some(role)),
    )?;
    names.into_iter().next().ok_or_else(no_role)
}
