//! Records: what a row of theirs holds, and the tables that they are in.

mod layout;
pub mod leap;
mod look;
pub mod marker;
mod row;
mod table;

pub use layout::Layout;
pub use row::{Found, Owner, Row, column};
pub use table::{Locked, Records};
