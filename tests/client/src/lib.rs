//! What the storm and the client-side suites share: connections, a database of one's own, and ways to wait for
//! something to be so. Nothing here knows how the extension works inside.

pub mod ask;
pub mod connect;
pub mod scratch;
pub mod storm;
pub mod watch;
pub mod wire;

pub use scratch::Scratch;
pub use wire::{Reply, Wire};
