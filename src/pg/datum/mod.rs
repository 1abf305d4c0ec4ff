//! Values: read from Postgres' memory, and made in it.

pub mod array;
pub mod encoding;
pub mod interval;
pub mod jsonb;
pub mod make;
pub mod numeric;
pub mod row;
pub mod text;
pub mod varlena;
