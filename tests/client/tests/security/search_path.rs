//! Hostile objects where names are looked up: a schema with a copy of everything in pg_catalog, each of which raises an error of
//! its own, before pg_catalog in the search_path; temporary tables of the catalogs' names before that.

use client::Wire;

use super::{House, ROLES, calls, members, try_it};

/// The SQLSTATE that every hostile object raises.
const HIJACKED: &str = "HIJCK";

const TRAPS: &str = include_str!("traps.sql");

/// Temporary tables come first of all unless somebody says otherwise.
const TEMPORARY_TRAPS: &str = "
    DO $do$
    DECLARE
        f record;
    BEGIN
        FOR f IN SELECT DISTINCT c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                 WHERE c.relkind IN ('r', 'v', 'S') AND n.nspname IN ('pg_catalog', 'idempotent') LOOP
            EXECUTE format('CREATE TEMPORARY TABLE %I (hijacked integer)', f.relname);
        END LOOP;
    END $do$";

const BEHIND_TRAPS: &str =
    "SELECT pg_catalog.set_config('search_path', 'pg_temp, evil, pg_catalog, public', false)";

fn spring(wire: &mut Wire) {
    wire.run(TEMPORARY_TRAPS);
    wire.run(BEHIND_TRAPS);
}

#[track_caller]
fn traps_work(wire: &mut Wire) {
    assert_eq!(wire.call("SELECT now()").code(), HIJACKED);
    assert_eq!(wire.call("SELECT 1::pg_catalog.int4 = 2::pg_catalog.int4").code(), HIJACKED);
    assert_eq!(wire.call("SELECT 'a'::pg_catalog.text || 'b'::pg_catalog.text").code(), HIJACKED);
    assert_eq!(wire.run("SELECT count(*) FROM pg_class").value(), "0");
    assert_eq!(wire.run("SELECT count(*) FROM operation").value(), "0");
}

/// Each call is answered as without the traps: those of the caller's rights, and those with their owner's.
#[test]
fn every_function_is_deaf_to_the_callers_search_path() {
    let house = House::new();
    let mut admin = house.admin();
    admin.run(TRAPS);
    let functions = members::functions(&mut admin);
    for role in ROLES.into_iter().chain(["postgres"]) {
        let (mut clean, mut trapped) = (house.login(role), house.login(role));
        // All of them may make temporary tables, as is Postgres' default.
        spring(&mut trapped);
        traps_work(&mut trapped);
        for (function, call) in calls::of(&functions) {
            let name = if function.name.contains('.') {
                function.name.clone()
            } else {
                format!("public.{}", function.name)
            };
            let sql = house.on("shared", &call.sql(function, None)).replace(&function.name, &name);
            let expected = try_it(&mut clean, &sql);
            assert_eq!(try_it(&mut trapped, &sql), expected, "{role}: {sql}");
        }
    }
    // Views are read by their owner's hand: what they call is not looked up anew.
    let mut monitor = house.login("monitor");
    let views = members::relations(&mut admin).into_iter().filter(|relation| relation.kind == "v");
    let views: Vec<String> = views.map(|view| view.name).collect();
    spring(&mut monitor);
    for view in views {
        assert_eq!(try_it(&mut monitor, &format!("SELECT * FROM {view}")), "ok", "{view}");
    }
}

/// CREATE EXTENSION by a superuser who searches the traps first, into the schema that is full of them.
#[test]
fn the_extension_can_be_made_among_the_traps() {
    let cluster = super::cluster();
    let scratch = client::Scratch::bare_on(cluster.server(), "");
    let mut admin = scratch.wire();
    admin.run(TRAPS);
    spring(&mut admin);
    admin.run("CREATE EXTENSION pg_idempotent SCHEMA evil");
    // The temporary tables go with their session.
    let mut admin = scratch.wire();
    let ours = "SELECT count(*), count(*) FILTER (WHERE p.probin = '$libdir/pg_idempotent' OR p.prosrc LIKE '%pg_catalog.%'
            OR 'search_path=pg_catalog, pg_temp' = ANY (p.proconfig))
        FROM pg_proc AS p JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
        JOIN pg_extension AS e ON e.oid = d.refobjid WHERE e.extname = 'pg_idempotent'";
    let row = admin.run(ours).row().to_vec();
    assert_eq!(row[0], row[1], "functions that are not ours");
    // Columns, arguments and results are of pg_catalog's types, or of the extension's own.
    let foreign = "SELECT string_agg(pg_describe_object(d.classid, d.objid, d.objsubid), ', ')
        FROM pg_depend AS d JOIN pg_type AS t ON d.refclassid = 'pg_type'::regclass AND d.refobjid = t.oid
        WHERE t.typnamespace = 'evil'::regnamespace AND t.typname NOT IN ('idempotent_result', '_idempotent_result')
          AND (d.classid = 'pg_class'::regclass AND d.objid IN (SELECT oid FROM pg_class WHERE relnamespace = 'idempotent'::regnamespace)
               OR d.classid = 'pg_proc'::regclass AND d.objid IN (SELECT oid FROM pg_proc WHERE probin = '$libdir/pg_idempotent'))";
    assert_eq!(admin.run(foreign).value(), "");
    admin.run("BEGIN; SELECT evil.idempotent_claim('op', 'k', '1'); SELECT evil.idempotent_complete('op', 'k', '2'); COMMIT");
    let replay =
        "SELECT outcome || ' ' || pg_typeof(response) FROM evil.idempotent_replay('op', 'k')";
    assert_eq!(admin.run(replay).value(), "replay jsonb");
    assert_eq!(admin.run("SELECT version = schema_version FROM idempotent.health").value(), "t");
    admin.run("SELECT evil.idempotent_operation('op', durability => 'logged'), evil.idempotent_grant('caller'), evil.idempotent_sweep()");
    admin.run("DROP EXTENSION pg_idempotent");
}

/// What is there already is not taken over, whichever object it is: CREATE EXTENSION refuses.
#[test]
fn nothing_that_is_there_already_becomes_a_part_of_the_extension() {
    let house = House::new();
    let mut admin = house.admin();
    let functions = members::functions(&mut admin);
    admin.run("DROP EXTENSION pg_idempotent");
    let create = "CREATE EXTENSION pg_idempotent SCHEMA public";
    let placed = functions.iter().filter(|function| !function.name.contains('.'));
    let mut tried = 0;
    for function in placed {
        let arguments: Vec<String> = function
            .arguments
            .iter()
            .map(|(name, kind)| format!("{name} {kind} DEFAULT NULL"))
            .collect();
        // Types of the extension are gone with it.
        let made = format!(
            "CREATE FUNCTION public.{}({}) RETURNS text LANGUAGE sql AS 'SELECT ''hijacked'''",
            function.name,
            arguments.join(", ")
        );
        assert_eq!(
            try_it(&mut admin, &format!("{made}; {create}")),
            "42723",
            "{}",
            function.identity
        );
        tried += 1;
    }
    assert!(tried > 15, "functions: {tried}");
    assert_eq!(try_it(&mut admin, &format!("CREATE SCHEMA idempotent; {create}")), "42P06");
    assert_eq!(
        try_it(&mut admin, &format!("CREATE TYPE idempotent_result AS (outcome text); {create}")),
        "42710"
    );
    assert_eq!(try_it(&mut admin, create), "ok");
}
