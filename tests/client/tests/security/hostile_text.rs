//! Text that wants to be SQL, through every argument of every function: it is stored or refused, and nothing else happens.

use client::Wire;
use client::wire::quote;

use super::members::Function;
use super::{House, calls, members};

/// What hostile text would do if it were taken for SQL.
const BAIT: &str = "
    CREATE SEQUENCE public.tripwire;
    CREATE TABLE public.canary AS SELECT 'alive' AS state";

/// A sequence remembers, whatever is rolled back afterwards.
const UNTOUCHED: &str = "SELECT NOT is_called FROM public.tripwire";

/// What no call of ours changes without saying so: functions, relations, roles, who may what.
const CATALOGS: &str = "SELECT md5(concat(
    (SELECT string_agg(concat(p.oid, p.proname, p.proowner, p.proacl, p.prosrc), ' ' ORDER BY p.oid) FROM pg_proc AS p),
    (SELECT string_agg(concat(c.oid, c.relname, c.relowner, c.relacl), ' ' ORDER BY c.oid) FROM pg_class AS c),
    (SELECT string_agg(r::text, ' ' ORDER BY r.oid) FROM pg_roles AS r), (SELECT string_agg(m::text, ' ' ORDER BY m.oid) FROM pg_auth_members AS m)))";

/// A statement that does what must not be done, behind what may end the literal, name or comment that the text is put into.
#[rustfmt::skip]
const CLOSINGS: &[&str] = &[
    "", "'", "''", "\\'", "\"", "\\\"", "$$", "$1", ")", "')", "'::text)", "\")", "*/", "--\n", "]", "}", "{\"", "' || ", "\u{2019}", "\u{ff07}",
];

/// Text that means something to somebody on the way: formats, nulls, arrays, escapes, directions.
#[rustfmt::skip]
const ODDITIES: &[&str] = &[
    "", " ", "NULL", "null", "-", "0", "default", "%", "%s", "%I", "%1$s%n%d", "{}", "{0}", "{,}", "()", "jsonb", "\\", "\\N", "\\x41", "\\u0000",
    "E'\\x27'", "U&'\\0027'", "'", "''", "\"", "\"\"", "$$", "$tag$", "$1", ":1", ":'var'", "?", "/*", "--", ";", "a.b.c", "pg_catalog", "current_user",
    "a\tb", "a\nb", "\u{1}", "\u{7f}", "\u{85}", "e\u{301}", "\u{202e}desrever", "\u{feff}", "\u{1f4a3}", "\u{10ffff}",
];

fn hostile() -> Vec<String> {
    let mut all: Vec<String> = CLOSINGS
        .iter()
        .map(|closing| {
            format!("{closing}; SELECT nextval('public.tripwire'); DROP TABLE public.canary; --")
        })
        .collect();
    all.extend(
        CLOSINGS.iter().map(|closing| format!("{closing}||nextval('public.tripwire')||{closing}")),
    );
    all.extend(ODDITIES.iter().map(|text| (*text).to_owned()));
    all.extend([63, 64, 255, 256, 20_000].map(|length| "'".repeat(length)));
    all
}

/// Hostile text as a value of this type; nothing for a type that has no text in it.
fn values(kind: &str, text: &str) -> Vec<String> {
    let literal = quote(text);
    match kind {
        "text" => vec![literal],
        "jsonb" => vec![
            format!("to_jsonb({literal}::text)"),
            format!("jsonb_build_object({literal}, {literal})"),
        ],
        "text[]" => vec![format!("ARRAY[{literal}]::text[]")],
        "bytea" => vec![format!("convert_to({literal}, 'UTF8')")],
        // Postgres reads these itself; what it accepts is an OID.
        "regrole" => vec![format!("{literal}::text::{kind}")],
        _ => vec![],
    }
}

/// 42883 is a saga's handler that does not exist, 42704 a saga that nobody has started, 2D000 a saga in the transaction that everything is tried in.
/// 42601, 42P01 and 42703 would be SQL that somebody has taken the text for, and XX... what nobody thought of.
fn is_expected(kind: &str, code: &str) -> bool {
    let ours = code.is_empty()
        || code.starts_with("ID")
        || matches!(code, "22023" | "2D000" | "42704" | "42883" | "54000" | "55000");
    let named = matches!(code, "42704" | "42883" | "42602" | "22P02" | "42601" | "3F000" | "0A000");
    ours || kind.starts_with("reg") && named
}

fn try_argument(
    admin: &mut Wire,
    house: &House,
    function: &Function,
    call: &calls::Call,
    argument: &(String, String),
) -> usize {
    let (name, kind) = argument;
    let mut tried = 0;
    for value in hostile().iter().flat_map(|text| values(kind, text)) {
        let sql = house.on("shared", &call.sql(function, Some((name, &value))));
        // In one go; after a refusal nothing but the end of the transaction is left to do.
        let reply = admin.call(&format!("BEGIN; {sql}; SELECT state FROM public.canary; ROLLBACK"));
        let shown: String = sql.chars().take(500).collect();
        assert!(is_expected(kind, reply.code()), "{:?} of {shown}", reply.refusal);
        if reply.code().is_empty() {
            assert_eq!(reply.rows.last(), Some(&vec![Some("alive".to_owned())]), "after {shown}");
        } else {
            admin.run("ROLLBACK");
        }
        tried += 1;
    }
    tried
}

#[test]
fn hostile_text_is_stored_or_refused() {
    let house = House::new();
    let mut admin = house.admin();
    admin.run(BAIT);
    let before = admin.run(CATALOGS).value().to_owned();
    let functions = members::functions(&mut admin);
    let mut tried = 0;
    for (function, call) in calls::of(&functions) {
        for argument in &function.arguments {
            let some = try_argument(&mut admin, &house, function, call, argument);
            assert_eq!(
                admin.run(UNTOUCHED).value(),
                "t",
                "{} of {}",
                argument.0,
                function.identity
            );
            tried += some;
        }
    }
    assert_eq!(admin.run(CATALOGS).value(), before);
    assert!(tried > 4000, "hardly anything was tried: {tried}");
}

/// What the bait is worth: text that is taken for SQL springs it.
#[test]
fn the_bait_would_be_taken() {
    let house = House::new();
    let mut admin = house.admin();
    admin.run(BAIT);
    admin.run(
        "CREATE FUNCTION public.careless(text) RETURNS void LANGUAGE plpgsql
         AS $$ BEGIN EXECUTE 'SELECT ''' || $1 || ''''; END $$",
    );
    let sprung = hostile().into_iter().filter(|text| {
        admin.run("BEGIN");
        let fails = admin.call(&format!("SELECT public.careless({})", quote(text))).code() != ""
            || admin.call("TABLE public.canary").code() != "";
        admin.run("ROLLBACK");
        fails
    });
    assert!(sprung.count() > 10);
    assert_eq!(admin.run(UNTOUCHED).value(), "f");
}
