//! jsonb as its text: what this program sends and compares, without a parser in between that both sides would pay for.

use std::error::Error;

use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

/// The version of jsonb's wire format, its first byte.
const VERSION: u8 = 1;

#[derive(Debug)]
pub struct Jsonb<T>(pub T);

impl ToSql for Jsonb<&str> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&[VERSION]);
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    accepts!(JSONB);
    to_sql_checked!();
}

impl FromSql<'_> for Jsonb<String> {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        match raw.split_first() {
            Some((&VERSION, text)) => Ok(Self(std::str::from_utf8(text)?.to_owned())),
            _ => Err("not a jsonb of version 1".into()),
        }
    }

    accepts!(JSONB);
}
