//! `idempotent_operation`: an operation's settings, checked, stored, and told to every session.

use crate::pg::arguments::{Args, Returned};
use crate::pg::datum::text::Text;
use crate::pg::datum::{array, make};
use crate::pg::declaration::{Argument, Texts, arguments};
use crate::pg::spi::{self, Parameter};
use crate::pg::{rights, shared_memory, snapshot};
use crate::settings;
use crate::tables::audit::{self, Deed};
use crate::tables::configuring::{self, Configuring};
use crate::tables::records::table::Records;
use crate::tables::{catalog, changing, earlier, operations, resets};
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::error::{Code, Error, Result};
use rules::http::HttpPolicy;
use rules::identity::check_operation;
use rules::policy::{AfterReset, Durability, KeyDates, KeyForm, Mode, OnLapse, has_records};
use rules::request::exclude::Exclusions;
use rules::store_failures::StoreFailures;
use rules::{Micros, Timestamp};

arguments! {
    OPERATION: Operation = "idempotent_operation" {
        name: Text, retention: Interval, failure_retention: Interval, response_retention: Interval, lease: Interval, wait: Interval, durability: Text, on_lapse: Text, max_response_bytes: Int4, scope_required: Bool, fingerprint_exclude: Texts, store_failures: Texts, after_reset: Text, mode: Text, key_dates: Text, role: Regrole, http_store: Texts, http_headers: Texts, take_role: Regrole, max_attempts: Int4, max_lease: Interval, max_retention: Interval, key_form: Text,
    }
    DROP: Drop = "idempotent_operation_drop" {
        name: Text,
    }
    CHECK: Check = "idempotent_check_settings" {
        name: Text, retention: Interval, failure_retention: Interval, response_retention: Interval, lease: Interval, wait: Interval, max_lease: Interval, max_retention: Interval, fingerprint_exclude: Texts, store_failures: Texts, http_store: Texts, http_headers: Texts,
    }
    STOP: Stop = "idempotent_stop_callers" { operation: Text, patiently: Bool }
    JOIN: Join = "idempotent_join_callers" { operation: Text }
    AUDITED: Audited = "idempotent_audited" {
        action: Text, operation: Text, detail: Text,
    }
}

/// A null argument leaves the column as it is. Of the columns that may be null, '0' (for roles '-')
/// sets them so: $20 max_attempts by itself, $24 response_retention, $25 lease, $26 role, $27 take_role,
/// $28 max_lease, $29 max_retention.
const UPSERT: &str = "
INSERT INTO idempotent.operation AS o (
    name, retention, failure_retention, response_retention, lease, wait, durability, on_lapse,
    max_response_bytes, scope_required, fingerprint_exclude, store_failures, after_reset, mode,
    key_dates, role, http_store, http_headers, take_role,
    max_attempts, max_lease, max_retention, key_form
) VALUES (
    $1, COALESCE($2, '24 hours'), COALESCE($3, '5 minutes'),
    CASE WHEN $24 THEN NULL ELSE $4 END, CASE WHEN $25 THEN NULL ELSE $5 END, $6,
    COALESCE($7, 'unlogged'), COALESCE($8, 'retry'), COALESCE($9, 1048576), COALESCE($10, false),
    COALESCE($11, '{}'), COALESCE($12, '{}'), COALESCE($13, 'unknown'), COALESCE($14, 'enforce'),
    COALESCE($15, 'use'), (SELECT r.rolname::text FROM pg_catalog.pg_roles AS r WHERE r.oid = $16),
    COALESCE($17, '{}'), COALESCE($18, '{}'),
    (SELECT r.rolname::text FROM pg_catalog.pg_roles AS r WHERE r.oid = $19), NULLIF($20, 0),
    CASE WHEN $28 THEN NULL ELSE $21 END, CASE WHEN $29 THEN NULL ELSE $22 END,
    COALESCE($23, 'text')
) ON CONFLICT (name) DO UPDATE SET
    retention = COALESCE($2, o.retention),
    failure_retention = COALESCE($3, o.failure_retention),
    response_retention = CASE WHEN $24 THEN NULL ELSE COALESCE($4, o.response_retention) END,
    lease = CASE WHEN $25 THEN NULL ELSE COALESCE($5, o.lease) END,
    wait = COALESCE($6, o.wait),
    durability = COALESCE($7, o.durability),
    on_lapse = COALESCE($8, o.on_lapse),
    max_response_bytes = COALESCE($9, o.max_response_bytes),
    scope_required = COALESCE($10, o.scope_required),
    fingerprint_exclude = COALESCE($11, o.fingerprint_exclude),
    store_failures = COALESCE($12, o.store_failures),
    after_reset = COALESCE($13, o.after_reset),
    mode = COALESCE($14, o.mode),
    key_dates = COALESCE($15, o.key_dates),
    role = CASE WHEN $26 THEN NULL WHEN $16 IS NULL THEN o.role ELSE EXCLUDED.role END,
    http_store = COALESCE($17, o.http_store),
    http_headers = COALESCE($18, o.http_headers),
    take_role = CASE WHEN $27 THEN NULL WHEN $19 IS NULL THEN o.take_role ELSE EXCLUDED.take_role END,
    max_attempts = NULLIF(COALESCE($20, o.max_attempts), 0),
    max_lease = CASE WHEN $28 THEN NULL ELSE COALESCE($21, o.max_lease) END,
    max_retention = CASE WHEN $29 THEN NULL ELSE COALESCE($22, o.max_retention) END,
    key_form = COALESCE($23, o.key_form)";

pub fn idempotent_operation(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_operation()");
    let name = args.get(OPERATION.name);
    check_operation(name.map(|name| name.utf8))?;
    let Some(name) = name else { return Ok(None) };
    let cleared = check(args)?;
    // What follows is SQL, which would find out in its own words that the schema is of another version.
    catalog::get()?;
    let _configuring = Configuring::begin();
    changing::begin(&name)?;
    let durability = match durability(args)? {
        None if operations::row(&name)?.is_none() => Some(settings::default_durability()),
        given => given,
    };
    if let Some(durability) = durability {
        move_records(&name, durability)?;
    }
    if let Some(key_form) = key_form(args)? {
        stop_callers_of_keys(&name, key_form)?;
    }
    upsert(args, cleared, durability)?;
    operations::row(&name)
}

/// For the trigger that refuses other changes.
pub fn is_configuring(_: &Args) -> Returned {
    Ok(Some(Datum::from(configuring::is_at_work())))
}

/// For the trigger that notes what changes: as the functions do it, or only if that does not take long; whether
/// no call of the operation is left.
pub fn stop_callers(args: &Args) -> Returned {
    catalog::get()?;
    let Some(name) = args.get(STOP.operation) else { return Ok(None) };
    changing::begin(&name)?;
    if args.is_set(STOP.patiently) {
        changing::stop_callers(&name)?;
        return Ok(Some(Datum::from(true)));
    }
    Ok(Some(Datum::from(changing::try_to_stop_callers(&name)?)))
}

/// For rows that SQL writes into a table of records.
pub fn join_callers(args: &Args) -> Returned {
    catalog::get()?;
    if let Some(name) = args.get(JOIN.operation) {
        changing::join(&name)?;
    }
    Ok(Some(Datum::from(0)))
}

const STILL_HAS: &str = "SELECT idempotent.still_has($1)";

/// Removes the settings of an operation; whether there were any.
pub fn idempotent_operation_drop(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_operation_drop()");
    let name = args.get(DROP.name);
    check_operation(name.map(|name| name.utf8))?;
    let Some(name) = name else { return Ok(None) };
    catalog::get()?;
    snapshot::refuse_frozen("an operation can only be removed")?;
    let _configuring = Configuring::begin();
    changing::begin(&name)?;
    // Nobody is waited for because of a name that has no settings.
    if operations::row(&name)?.is_none() {
        return Ok(Some(Datum::from(false)));
    }
    // What is claimed now is stored before it is looked for.
    changing::stop_callers(&name)?;
    let parameters = [(pg_sys::TEXTOID, Some(name.datum))];
    if let Some(what) = spi::texts(STILL_HAS, &parameters)?.first() {
        return Err(has_records(name.utf8, what.as_ref()));
    }
    let dropped =
        spi::execute("DELETE FROM idempotent.operation AS o WHERE o.name = $1", &parameters)?;
    Ok(Some(Datum::from(dropped > 0)))
}

/// Which of the settings that may be null are to become so.
#[derive(Clone, Copy)]
struct Cleared {
    response_retention: bool,
    lease: bool,
    role: bool,
    take_role: bool,
    max_lease: bool,
    max_retention: bool,
}

fn check(args: &Args) -> Result<Cleared> {
    args.duration(OPERATION.retention, 1)?;
    args.duration(OPERATION.failure_retention, 1)?;
    args.duration(OPERATION.wait, 0)?;
    let is_zero = |micros: Option<Micros>| micros == Some(0);
    let cleared = Cleared {
        response_retention: is_zero(args.duration(OPERATION.response_retention, 0)?),
        lease: is_zero(args.duration(OPERATION.lease, 0)?),
        role: args.get(OPERATION.role) == Some(pg_sys::InvalidOid),
        take_role: args.get(OPERATION.take_role) == Some(pg_sys::InvalidOid),
        max_lease: is_zero(args.duration(OPERATION.max_lease, 0)?),
        max_retention: is_zero(args.duration(OPERATION.max_retention, 0)?),
    };
    check_role("role", args.get(OPERATION.role))?;
    check_role("take_role", args.get(OPERATION.take_role))?;
    on_lapse(args)?;
    after_reset(args)?;
    key_dates(args)?;
    key_form(args)?;
    warn_if_uncounted(mode(args)?);
    if args.get(OPERATION.max_response_bytes).is_some_and(|bytes| bytes < 0) {
        return Err(Error::new(Code::InvalidParameter, "max_response_bytes must not be negative")
            .hint("Pass a number of bytes; 0 keeps no bodies at all."));
    }
    if args.get(OPERATION.max_attempts).is_some_and(|attempts| attempts < 0) {
        return Err(Error::new(Code::InvalidParameter, "max_attempts must not be negative")
            .hint("Pass how often a message may be taken; 0 sets no limit."));
    }
    check_lists(
        args,
        [OPERATION.fingerprint_exclude, OPERATION.store_failures],
        [OPERATION.http_store, OPERATION.http_headers],
    )?;
    Ok(cleared)
}

/// For the trigger that settings pass, however they come: what the function demands of its arguments.
pub fn check_settings(args: &Args) -> Returned {
    check_operation(args.get(CHECK.name).map(|name| name.utf8))?;
    for (argument, min) in [
        (CHECK.retention, 1),
        (CHECK.failure_retention, 1),
        (CHECK.response_retention, 1),
        (CHECK.lease, 1),
        (CHECK.wait, 0),
        (CHECK.max_lease, 1),
        (CHECK.max_retention, 1),
    ] {
        args.duration(argument, min)?;
    }
    check_lists(
        args,
        [CHECK.fingerprint_exclude, CHECK.store_failures],
        [CHECK.http_store, CHECK.http_headers],
    )?;
    Ok(Some(Datum::from(0)))
}

fn check_lists(
    args: &Args,
    [exclude, failures]: [Argument<Texts>; 2],
    [store, headers]: [Argument<Texts>; 2],
) -> Result<()> {
    let texts = |argument| {
        // SAFETY: the kind `Texts` of each argument stands for text[].
        args.get(argument).map_or(Ok(Vec::new()), |datum| unsafe { array::owned(datum) })
    };
    Exclusions::parse(texts(exclude)?)?;
    StoreFailures::parse(texts(failures)?)?;
    HttpPolicy::parse(texts(store)?, texts(headers)?)?;
    Ok(())
}

/// A number is taken for a role, too, whether there is such a role or not.
fn check_role(argument: &str, role: Option<pg_sys::Oid>) -> Result<()> {
    let given = role.filter(|role| *role != pg_sys::InvalidOid);
    if given.is_none_or(rights::exists) {
        return Ok(());
    }
    Err(Error::new(Code::InvalidParameter, format!("{argument} must be an existing role"))
        .hint(format!("Pass its name, e.g. {argument} => 'app', or {argument} => '-' for none.")))
}

fn mode(args: &Args) -> Result<Option<Mode>> {
    args.get(OPERATION.mode).map(|text| Mode::parse(text.utf8)).transpose()
}

fn warn_if_uncounted(mode: Option<Mode>) {
    if mode == Some(Mode::Observe) && !shared_memory::preloaded() {
        pgrx::ereport!(
            pgrx::PgLogLevel::WARNING,
            pgrx::PgSqlErrorCode::ERRCODE_WARNING,
            "what is observed is not counted",
            "The library was not loaded when the server started. Add pg_idempotent to shared_preload_libraries, and restart the server."
        );
    }
}

fn durability(args: &Args) -> Result<Option<Durability>> {
    args.get(OPERATION.durability).map(|text| Durability::parse(text.utf8)).transpose()
}

fn on_lapse(args: &Args) -> Result<Option<OnLapse>> {
    args.get(OPERATION.on_lapse).map(|text| OnLapse::parse(text.utf8)).transpose()
}

fn after_reset(args: &Args) -> Result<Option<AfterReset>> {
    args.get(OPERATION.after_reset).map(|text| AfterReset::parse(text.utf8)).transpose()
}

fn key_dates(args: &Args) -> Result<Option<KeyDates>> {
    args.get(OPERATION.key_dates).map(|text| KeyDates::parse(text.utf8)).transpose()
}

fn key_form(args: &Args) -> Result<Option<KeyForm>> {
    args.get(OPERATION.key_form).map(|text| KeyForm::parse(text.utf8)).transpose()
}

/// Whether other keys are kept is looked for by the trigger, as for a change by hand: here so that each that is claimed
/// now is stored before.
fn stop_callers_of_keys(name: &Text<'_>, key_form: KeyForm) -> Result<()> {
    catalog::refresh();
    if operations::got(name)?.policy.key_form == key_form {
        return Ok(());
    }
    snapshot::refuse_frozen("key_form can only be changed")?;
    changing::stop_callers(name)
}

/// Records follow their operation into the other table, in this transaction.
///
/// Every transaction that works with the operation's keys is waited for, and no other begins until this one ends:
/// none finishes in the old table.
fn move_records(name: &Text<'_>, durability: Durability) -> Result<()> {
    let (source, from, to) = match durability {
        Durability::Logged => (Durability::Unlogged, "record", "record_logged"),
        Durability::Unlogged => (Durability::Logged, "record_logged", "record"),
    };
    let wanted = durability.as_str();
    let parameters: [Parameter; 2] =
        [(pg_sys::TEXTOID, Some(name.datum)), (pg_sys::TEXTOID, Some(make::text(wanted)))];
    let current = spi::texts(
        "SELECT COALESCE((SELECT o.durability FROM idempotent.operation AS o \
         WHERE o.name = $1), 'unlogged') \
         WHERE $2 <> ''",
        &parameters,
    )?;
    if current == [wanted] {
        return Ok(());
    }
    snapshot::refuse_frozen("durability can only be changed")?;
    changing::stop_callers(name)?;
    // An administrator may have added columns to the one table or the other.
    let columns = spi::texts(
        "SELECT pg_catalog.quote_ident(c) FROM pg_catalog.unnest(idempotent.shared_columns()) AS c",
        &[],
    )?
    .join(", ");
    spi::execute_on_records(
        &format!(
            "WITH moved AS (DELETE FROM idempotent.{from} AS r \
             WHERE r.operation = $1 RETURNING {columns}) \
             INSERT INTO idempotent.{to} ({columns}) SELECT {columns} FROM moved"
        ),
        &parameters[..1],
    )?;
    // Opened as by a claim: the table that is used from now on must know if it loses something, and
    // what the other one has lost goes along.
    Records::open_to_write(durability)?;
    let lost_before = Records::open_to_write(source)?.lost_before();
    if lost_before > Timestamp::MIN {
        resets::carry(durability, name, lost_before)?;
    }
    Ok(())
}

fn upsert(args: &Args, cleared: Cleared, durability: Option<Durability>) -> Result<()> {
    let types = Operation::DECLARED.types;
    let mut parameters: Vec<Parameter> =
        types.iter().enumerate().map(|(index, oid)| (*oid, args.datum(index))).collect();
    // As the domain spells them, whatever case they came in.
    for (argument, choice) in [
        (OPERATION.durability, durability.map(Durability::as_str)),
        (OPERATION.on_lapse, on_lapse(args)?.map(OnLapse::as_str)),
        (OPERATION.after_reset, after_reset(args)?.map(AfterReset::as_str)),
        (OPERATION.mode, mode(args)?.map(Mode::as_str)),
        (OPERATION.key_dates, key_dates(args)?.map(KeyDates::as_str)),
        (OPERATION.key_form, key_form(args)?.map(KeyForm::as_str)),
    ] {
        parameters[argument.at].1 = choice.map(make::text);
    }
    for flag in [
        cleared.response_retention,
        cleared.lease,
        cleared.role,
        cleared.take_role,
        cleared.max_lease,
        cleared.max_retention,
    ] {
        parameters.push((pg_sys::BOOLOID, Some(Datum::from(flag))));
    }
    spi::execute(UPSERT, &parameters)?;
    Ok(())
}

/// The statement trigger of `idempotent.operation`: when this transaction commits, every session
/// reads the settings anew.
pub fn idempotent_operation_changed(_: &Args) -> Returned {
    operations::tell_others()?;
    earlier::end_with_transaction();
    // A trigger returns a null pointer, not SQL's null (commands/trigger.h).
    Ok(Some(Datum::from(0)))
}

/// For the trigger that notes who changed settings.
pub fn audited(args: &Args) -> Returned {
    let text = |argument| args.get(argument).map(|text: Text<'_>| text.datum);
    let action = args
        .get(AUDITED.action)
        .map_or_else(String::new, |text| String::from_utf8_lossy(text.utf8).into_owned());
    audit::note_of_client(&Deed {
        action: &action,
        operation: text(AUDITED.operation),
        detail: text(AUDITED.detail),
        ..Deed::default()
    })?;
    Ok(Some(Datum::from(0)))
}
