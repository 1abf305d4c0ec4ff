//! Handlers: whose rights they run with, and which functions are none.

use client::Wire;

use super::{House, try_it};

fn run(key: &str, handler: &str) -> String {
    format!("SELECT response #>> '{{}}' FROM idempotent_run('shared', '{key}', '1', {handler})")
}

/// A function that says who it is, in a schema that callers may or may not use.
fn function(admin: &mut Wire, name: &str, options: &str) -> String {
    admin.run(&format!(
        "CREATE FUNCTION {name}(jsonb) RETURNS jsonb LANGUAGE sql {options}
         AS 'SELECT to_jsonb(current_user || '' '' || session_user)'"
    ));
    let oid = format!("SELECT '{name}(jsonb)'::regprocedure::oid");
    format!("'{}'", admin.run(&oid).value())
}

#[test]
fn a_handler_runs_with_its_callers_rights_or_as_its_definer() {
    let house = House::new();
    let (mut admin, mut caller) = (house.admin(), house.login("caller"));
    let own = function(&mut admin, "public.plain", "");
    let definer = function(&mut admin, "public.definer", "SECURITY DEFINER");
    assert_eq!(caller.run(&run("a", &own)).value(), "caller caller");
    assert_eq!(caller.run(&run("b", &definer)).value(), "postgres caller");
    assert_eq!(caller.run("SELECT current_user").value(), "caller");
    // One that somebody else owns gets nothing of its owner's.
    admin.run("ALTER FUNCTION public.plain OWNER TO operator");
    assert_eq!(caller.run(&run("c", &own)).value(), "caller caller");
    // The replay is what was stored, whoever asks; nothing runs.
    assert_eq!(admin.run(&run("a", &definer)).value(), "caller caller");
}

#[test]
fn a_handler_that_raises_leaves_nobody_elses_rights_behind() {
    let house = House::new();
    let (mut admin, mut caller) = (house.admin(), house.login("caller"));
    admin.run(
        "CREATE FUNCTION public.raises(jsonb) RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER
         AS $$ BEGIN RAISE EXCEPTION 'declined for %', current_user; END $$;
         SELECT idempotent_operation('shared', store_failures => '{P0001}')",
    );
    let stored = caller.run(&run("a", "'public.raises(jsonb)'"));
    assert!(stored.value().contains("declined for postgres"), "{stored:?}");
    assert_eq!(caller.run("SELECT current_user").value(), "caller");
    admin.run("SELECT idempotent_operation('shared', store_failures => '{}')");
    caller.run("BEGIN; SAVEPOINT s");
    assert_eq!(caller.call(&run("b", "'public.raises(jsonb)'")).code(), "P0001");
    caller.run("ROLLBACK TO s");
    assert_eq!(caller.run("SELECT current_user").value(), "caller");
    assert_eq!(caller.call("TABLE idempotent.record").code(), "42501");
}

#[test]
fn a_handler_needs_execute_and_its_schema_usage_however_it_is_named() {
    let house = House::new();
    let (mut admin, mut caller) = (house.admin(), house.login("caller"));
    admin.run("CREATE SCHEMA closed");
    // Everybody may EXECUTE a new function: what keeps callers out is the schema alone.
    let hidden = function(&mut admin, "closed.hidden", "SECURITY DEFINER");
    let revoked = function(&mut admin, "public.revoked", "");
    admin.run("REVOKE ALL ON FUNCTION public.revoked FROM PUBLIC");
    for handler in
        ["'closed.hidden(jsonb)'", hidden.as_str(), "'public.revoked(jsonb)'", revoked.as_str()]
    {
        assert_eq!(try_it(&mut caller, &run("k", handler)), "42501", "{handler}");
    }
    let nothing = "SELECT outcome FROM idempotent_replay('shared', 'k')";
    assert_eq!(admin.run(nothing).value(), "absent");
    // A replay does not run it, and does not ask for less.
    assert_eq!(admin.run(&run("k", &hidden)).value(), "postgres postgres");
    assert_eq!(try_it(&mut caller, &run("k", &hidden)), "42501");
    admin.run("GRANT USAGE ON SCHEMA closed TO caller; GRANT EXECUTE ON FUNCTION public.revoked TO caller");
    for handler in ["'closed.hidden(jsonb)'", hidden.as_str(), revoked.as_str()] {
        assert_eq!(try_it(&mut caller, &run("k", handler)), "ok", "{handler}");
    }
}

/// In somebody else's temporary schema nobody has anything to call.
#[test]
fn a_temporary_handler_is_its_sessions_own() {
    let house = House::new();
    let (mut caller, mut other) = (house.login("caller"), house.login("left"));
    let oid = "CREATE FUNCTION pg_temp.mine(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
        SELECT 'pg_temp.mine(jsonb)'::regprocedure::oid";
    let handler = format!("'{}'", caller.run(oid).value());
    assert_eq!(try_it(&mut caller, &run("k", &handler)), "ok");
    assert_eq!(try_it(&mut other, &run("k", &handler)), "42501");
}

/// Every function there is, as a handler: what is none is refused before anything is done, and nothing crashes.
#[test]
fn no_function_of_postgres_is_a_handler_unless_it_has_the_signature() {
    let house = House::new();
    let mut caller = house.login("caller");
    let survey = caller.run(
        "CREATE FUNCTION pg_temp.answer(f oid) RETURNS text LANGUAGE plpgsql AS $$
         BEGIN
             PERFORM idempotent_run('shared', 'every function', '{}', f::text);
             RAISE EXCEPTION SQLSTATE '00UND';
         EXCEPTION WHEN SQLSTATE '00UND' THEN RETURN 'accepted';
                   WHEN OTHERS THEN RETURN sqlstate;
         END $$;
         SELECT a.answer, p.has_signature, count(*)
         FROM (SELECT oid, prokind = 'f' AND pronargs = 1 AND proargtypes[0] = 'jsonb'::regtype AND prorettype = 'jsonb'::regtype
                      AND NOT proretset AS has_signature FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace) AS p,
              LATERAL (SELECT pg_temp.answer(p.oid)) AS a (answer)
         GROUP BY 1, 2 ORDER BY 1, 2",
    );
    let rows: Vec<(&str, &str)> = survey.rows[..]
        .iter()
        .map(|row| (row[0].as_deref().unwrap_or(""), row[1].as_deref().unwrap_or("")))
        .collect();
    assert!(rows.contains(&("22023", "f")), "{survey:?}");
    assert!(
        rows.iter().all(|row| *row == ("22023", "f") || *row == ("accepted", "t")),
        "{survey:?}"
    );
}
