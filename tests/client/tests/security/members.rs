//! What the extension consists of, asked of the catalog: whatever is added is tried, too.

use client::Wire;

const MEMBERS: &str = "
    FROM pg_depend AS d JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
    WHERE e.extname = 'pg_idempotent' AND d.deptype = 'e'";

/// A function, with the names and types of its arguments.
pub struct Function {
    /// With its schema.
    pub name: String,
    /// With its arguments, but without the schema of those that CREATE EXTENSION places.
    pub identity: String,
    pub arguments: Vec<(String, String)>,
    pub is_procedure: bool,
}

impl Function {
    /// Without its schema.
    pub fn bare_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }
}

pub fn functions(admin: &mut Wire) -> Vec<Function> {
    let rows = admin.run(&format!(
        "SELECT p.oid::regproc, p.oid::regprocedure,
                (SELECT string_agg(quote_ident(name), ' ' ORDER BY n) FROM unnest(p.proargnames) WITH ORDINALITY AS a (name, n)),
                (SELECT string_agg(format_type(t, NULL), ';' ORDER BY n) FROM unnest(p.proargtypes) WITH ORDINALITY AS a (t, n)), p.prokind
         FROM pg_proc AS p WHERE p.oid IN (SELECT d.objid {MEMBERS} AND d.classid = 'pg_proc'::regclass)
         ORDER BY p.oid::regprocedure::text COLLATE \"C\""
    ));
    let function = |row: Vec<Option<String>>| {
        let [name, identity, names, types, kind] = texts(row);
        // None: a function without arguments, which may have names for what it returns.
        let types = types.split(';').filter(|kind| !kind.is_empty()).map(str::to_owned);
        let arguments = names.split_whitespace().map(str::to_owned).zip(types).collect();
        Function { name, identity, arguments, is_procedure: kind == "p" }
    };
    rows.rows.into_iter().map(function).collect()
}

/// A table, a view or a sequence.
pub struct Relation {
    pub kind: String,
    pub name: String,
    pub first_column: String,
}

pub fn relations(admin: &mut Wire) -> Vec<Relation> {
    let rows = admin.run(&format!(
        "SELECT c.relkind, c.oid::regclass, (SELECT quote_ident(a.attname) FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum = 1)
         FROM pg_class AS c WHERE c.oid IN (SELECT d.objid {MEMBERS} AND d.classid = 'pg_class'::regclass)
         ORDER BY c.oid::regclass::text COLLATE \"C\""
    ));
    let relation = |row: Vec<Option<String>>| {
        let [kind, name, first_column] = texts(row);
        Relation { kind, name, first_column }
    };
    rows.rows.into_iter().map(relation).collect()
}

/// Types, also those of the tables' rows.
pub fn types(admin: &mut Wire) -> Vec<String> {
    let members = format!("SELECT d.objid {MEMBERS} AND d.classid = 'pg_type'::regclass");
    names(
        admin,
        &format!(
            "SELECT t.oid::regtype FROM pg_type AS t
             WHERE t.oid IN ({members}) OR t.typrelid IN (SELECT d.objid {MEMBERS} AND d.classid = 'pg_class'::regclass)
             ORDER BY t.oid::regtype::text COLLATE \"C\""
        ),
    )
}

/// Members of kinds that nothing here knows how to try.
pub fn others(admin: &mut Wire) -> Vec<String> {
    names(
        admin,
        &format!(
            "SELECT pg_describe_object(d.classid, d.objid, 0) {MEMBERS}
             AND (d.classid NOT IN ('pg_proc'::regclass, 'pg_class'::regclass, 'pg_type'::regclass)
                  OR d.classid = 'pg_class'::regclass AND (SELECT c.relkind NOT IN ('r', 'v', 'S') FROM pg_class AS c WHERE c.oid = d.objid))
             ORDER BY 1"
        ),
    )
}

fn names(admin: &mut Wire, query: &str) -> Vec<String> {
    admin.run(query).rows.into_iter().map(|row| texts::<1>(row).concat()).collect()
}

fn texts<const N: usize>(row: Vec<Option<String>>) -> [String; N] {
    let mut texts = row.into_iter().map(Option::unwrap_or_default);
    std::array::from_fn(|_| texts.next().expect("as many columns as were asked for"))
}
