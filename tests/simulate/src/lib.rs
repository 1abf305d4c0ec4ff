//! A model of many nodes, at the scale of the internet: one in so many keys is played, and all of its calls.
//!
//! Keys share nothing but the node that they are on, so a sample of them meets what all of them would meet: the same crashes, the
//! same moves, the same routers that are late. What a node answers is decided by the extension's own rules (`rules`): slot, record id,
//! age, verdict, fence, expiry, the slots that are its own. Only what Postgres and SQL do is modelled here: tables, transactions,
//! sequences, the steps of a move, the merge of what arrives with what is there.
//!
//! What must hold is checked by a ledger that sees every commit and knows nothing of records (`ledger`). Each kind of fault in
//! `plant` breaks one step, and the ledger must notice.

pub mod client;
pub mod figures;
pub mod ledger;
pub mod moves;
pub mod node;
pub mod plan;
pub mod plant;
pub mod table;
pub mod world;

/// Microseconds in a second.
pub const SECOND: rules::Micros = 1_000_000;
/// And in an hour.
pub const HOUR: rules::Micros = 3_600 * SECOND;
