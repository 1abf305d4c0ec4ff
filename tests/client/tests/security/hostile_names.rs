//! Names that want to be SQL, where names are put into SQL: operations, scopes and keys that are kept, moved, swept and shown;
//! schemas, roles, handlers and databases.

use client::connect::Server;
use client::watch::wait_until;
use client::wire::quote;
use client::{Scratch, Wire};

use super::{House, cluster, try_it};

const NAMES: &[&str] = &[
    "'; DROP TABLE public.canary; --",
    "\"; DROP TABLE public.canary; --",
    "$$; DROP TABLE public.canary; $$",
    "\\'; DROP TABLE public.canary; --",
    "') OR true; --",
    "%s%I%L%1$s",
    "{\"a\",NULL}",
    "NULL",
    "-",
    "*/ /*",
    "public.canary",
    "\u{202e}\u{1f4a3} e\u{301} \u{2019}",
    "(other)",
];

fn name(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// Everything that is done with an operation, a scope and a key of this name.
fn live(admin: &mut Wire, text: &str) {
    let n = quote(text);
    let settings = format!(
        "SELECT name, fingerprint_exclude[1] FROM idempotent_operation({n}, durability => 'logged', fingerprint_exclude => ARRAY[{n}])"
    );
    assert_eq!(admin.run(&settings).row(), [Some(text.to_owned()), Some(text.to_owned())]);
    let run = format!(
        "SELECT outcome, response ->> 0 FROM idempotent_run({n}, {n}, jsonb_build_array({n}), 'public.handle(jsonb)', scope => {n})"
    );
    assert_eq!(admin.run(&run).row(), [Some("executed".to_owned()), Some(text.to_owned())]);
    let lease = format!(
        "SELECT fence FROM idempotent_claim({n}, 'leased', scope => {n}, lease => '1 hour')"
    );
    let fence = admin.run(&lease).value().to_owned();
    admin.run(&format!("SELECT idempotent_checkpoint({n}, 'leased', to_jsonb({n}::text), scope => {n}, fence => {fence})"));
    let seen =
        format!("SELECT scope FROM idempotent.in_flight WHERE operation = {n} AND key = 'leased'");
    assert_eq!(admin.run(&seen).value(), text);
    // Its records move to the other table and stay what they are.
    admin.run(&format!(
        "SELECT idempotent_operation({n}, durability => 'unlogged', on_lapse => 'unknown')"
    ));
    assert_eq!(admin.run(&run).row(), [Some("replay".to_owned()), Some(text.to_owned())]);
    let explained = format!("SELECT idempotent_explain({n}, {n}, {n}) ->> 'outcome'");
    assert_eq!(admin.run(&explained).value(), "replay");
    assert_eq!(
        admin.run(&format!("SELECT idempotent_release({n}, 'leased', {n}, {fence})")).value(),
        "t"
    );
}

fn texts(admin: &mut Wire, sql: &str) -> Vec<String> {
    admin.run(sql).rows.into_iter().map(|mut row| row.swap_remove(0).unwrap_or_default()).collect()
}

#[test]
fn operations_and_keys_of_hostile_names_live_and_die_like_others() {
    let house = House::new();
    let mut admin = house.admin();
    admin.run("CREATE TABLE public.canary AS SELECT 'alive' AS state");
    for text in NAMES {
        live(&mut admin, text);
    }
    let mut expected: Vec<String> = NAMES.iter().map(|text| (*text).to_owned()).collect();
    expected.sort();
    let others = "NOT IN ('shared', 'left', 'right')";
    let configured = format!(
        "SELECT name FROM idempotent.operation WHERE name {others} ORDER BY name COLLATE \"C\""
    );
    assert_eq!(texts(&mut admin, &configured), expected);
    let counted = format!(
        "SELECT operation FROM idempotent.stats WHERE operation {others} ORDER BY operation COLLATE \"C\""
    );
    assert_eq!(texts(&mut admin, &counted), expected);
    // The worker's turn.
    let done = format!("state = 'c' AND operation {others}");
    admin.run(&format!(
        "UPDATE idempotent.record SET expires_at = '-infinity', sweep_at = '-infinity' WHERE {done}"
    ));
    let swept =
        format!("SELECT count(*) FROM idempotent.stats WHERE swept = 1 AND operation {others}");
    let all = NAMES.len().to_string();
    wait_until("the sweeper has counted them", || admin.run(&swept).value() == all);
    assert_eq!(
        admin.run(&format!("SELECT count(*) FROM idempotent.record WHERE {done}")).value(),
        "0"
    );
    assert_eq!(admin.run("SELECT state FROM public.canary").value(), "alive");
}

const HOSTILE: &str = "a'b\"; DROP TABLE public.canary; --";

/// The extension in a schema, a database, and for a role and a handler of such names.
#[test]
fn schemas_roles_handlers_and_databases_may_have_hostile_names() {
    let cluster = cluster();
    let mut home = cluster.server().wire();
    let ident = name(HOSTILE);
    home.run(&format!("CREATE ROLE {ident} LOGIN"));
    home.run(&format!("CREATE DATABASE {ident}"));
    let server = cluster.server().with_database(HOSTILE);
    let mut admin = server.wire();
    admin.run("CREATE TABLE public.canary AS SELECT 'alive' AS state");
    admin.run(&format!("CREATE SCHEMA {ident}; CREATE EXTENSION pg_idempotent SCHEMA {ident}"));
    admin.run(&format!("CREATE FUNCTION {ident}.{ident}(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb(current_user)'"));
    let role = quote(&ident);
    admin.run(&format!("SELECT {ident}.idempotent_grant({role})"));
    admin.run(&format!(
        "SELECT {ident}.idempotent_operation('op', role => {role}, durability => 'logged')"
    ));
    let run = format!(
        "SELECT response #>> '{{}}' FROM {ident}.idempotent_run('op', 'k', '1', {})",
        quote(&format!("{ident}.{ident}(jsonb)"))
    );
    let mut member = Server { user: HOSTILE.to_owned(), ..server.clone() }.wire();
    assert_eq!(member.run(&run).value(), HOSTILE);
    admin.run(&format!("SELECT {ident}.idempotent_grant('caller')"));
    let mut other = Server { user: "caller".to_owned(), ..server.clone() }.wire();
    assert_eq!(try_it(&mut other, &run), "42501");
    admin.run(&format!("SELECT {ident}.idempotent_revoke({role})"));
    assert_eq!(try_it(&mut member, &run), "42501");
    // The worker visits it, and says its name when it has lost something.
    admin.run("TRUNCATE idempotent.record_logged");
    let noted = "SELECT count(*) FROM idempotent.reset WHERE reset_at IS NOT NULL";
    wait_until("the sweeper has noticed", || admin.run(noted).value() != "0");
    wait_until("the log says so", || {
        cluster.said(&["were lost", HOSTILE]).is_ok_and(|lines| lines.len() == 1)
    });
    assert_eq!(admin.run("SELECT state FROM public.canary").value(), "alive");
    drop((admin, member, other));
    home.run(&format!("DROP DATABASE {ident} WITH (FORCE)"));
    home.run(&format!("DROP ROLE {ident}"));
}

/// A role may be called like a key word; it is granted what was asked for, and nobody else is.
#[test]
fn granting_to_a_role_named_like_a_key_word_grants_to_that_role() {
    let cluster = cluster();
    let scratch = Scratch::bare_on(cluster.server(), "");
    let mut admin = scratch.wire();
    admin.run("CREATE EXTENSION pg_idempotent");
    for role in
        ["current_user", "session_user", "current_role", "group", "PUBLIC", "Public", "user"]
    {
        let ident = name(role);
        admin.run(&format!("CREATE ROLE {ident}"));
        admin.run(&format!("SELECT idempotent_grant({})", quote(&ident)));
        let may = "SELECT string_agg(g.grantee::regrole::text, ' ') FROM pg_proc AS p, aclexplode(p.proacl) AS g
            WHERE p.proname = 'idempotent_claim' AND g.grantee <> p.proowner";
        assert_eq!(
            admin.run(may).value(),
            admin.run(&format!("SELECT {}::regrole::text", quote(&ident))).value()
        );
        admin.run(&format!("SELECT idempotent_revoke({})", quote(&ident)));
        assert_eq!(admin.run(may).value(), "");
        admin.run(&format!("DROP OWNED BY {ident}; DROP ROLE {ident}"));
    }
}
