//! What there is to call: the extension's functions, as the catalog has them.

use client::Wire;

/// A member function, or one of ours that is called alike; no procedure.
#[derive(Clone, Debug)]
pub struct Function {
    /// Qualified and quoted.
    pub name: String,
    pub arguments: Vec<Argument>,
    /// How many of the arguments, the last ones, may be left out.
    pub defaults: usize,
    pub result: String,
    pub parallel_safe: bool,
}

impl Function {
    /// Whether it is for whoever holds a claim.
    pub fn takes_a_fence(&self) -> bool {
        self.arguments.iter().any(|argument| argument.name == "fence")
    }
}

#[derive(Clone, Debug)]
pub struct Argument {
    pub name: String,
    pub kind: String,
}

const FUNCTIONS: &str = "
SELECT p.oid::regproc::text, pronargdefaults, prorettype::regtype::text, proparallel <> 'u',
       array_to_string(proargnames[1:pronargs], ','), array_to_string(ARRAY(SELECT t::regtype::text FROM unnest(proargtypes) AS t), ',')
FROM pg_proc AS p
JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension AS e ON e.oid = d.refobjid
WHERE e.extname = 'pg_idempotent' AND p.prorettype <> 'trigger'::regtype AND p.prokind = 'f'
  AND p.proname <> ALL ('{idempotent_own,own_slots,announce_own,wait_for_slots,wait_for_writers,stop_callers,join_callers,idempotent_ignorant,idempotent_export,fence_above,position_above}')
  AND p.proname !~ '^import_'
ORDER BY 1";

/// All functions that a statement can call, but those that give slots away or forget what is known: after one of them
/// every other call is refused. sqlsmith calls them, and rolls them back.
pub fn functions(wire: &mut Wire) -> Vec<Function> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let split = |value: &Option<String>| -> Vec<String> {
        text(value).split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    wire.run(FUNCTIONS)
        .rows
        .iter()
        .map(|row| Function {
            name: text(&row[0]),
            defaults: text(&row[1]).parse().unwrap_or(0),
            result: text(&row[2]),
            parallel_safe: row[3].as_deref() == Some("t"),
            arguments: split(&row[4])
                .into_iter()
                .zip(split(&row[5]))
                .map(|(name, kind)| Argument { name, kind })
                .collect(),
        })
        .collect()
}
