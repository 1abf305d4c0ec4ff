//! Records: what a row of theirs holds, and the tables that they are in.

pub mod leap;
pub mod marker;
mod row;
mod table;

pub use row::{Found, Owner, Row, column, inserter};
pub use table::{Locked, Records};
