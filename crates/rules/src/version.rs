//! Whether a library and a schema belong together.

use crate::error::{Code, Error, Result};

/// The library works on the schemas of its own series: `1.2` for versions 1.2.0, 1.2.1 and so on, which
/// have the same tables, arguments and results.
///
/// # Errors
/// 55000 for any other schema.
pub fn check(library: &str, schema: &str) -> Result<()> {
    let (ours, theirs) = (series(library), series(schema));
    if ours == theirs {
        return Ok(());
    }
    let hint = if theirs > ours {
        "Reconnect. Where the library is preloaded, restart the server."
    } else {
        "ALTER EXTENSION pg_idempotent UPDATE;"
    };
    Err(Error::new(Code::ObjectNotReady, "library version does not match the extension's schema")
        .detail(format!(
            "The library is of version {library}, and the schema in this database of version {schema}."
        ))
        .hint(hint))
}

/// The first two numbers of a version; `None`, which is less than any, if it has no such.
fn series(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
#[path = "tests/version.rs"]
mod tests;
