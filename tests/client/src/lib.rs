//! What the storm and the client-side suites share: connections, a database or a server of one's own, and ways to wait for
//! something to be so. Nothing here knows how the extension works inside.

pub mod ask;
pub mod cluster;
pub mod connect;
pub mod failover;
pub mod figures;
mod home;
pub mod intact;
pub mod misfortune;
pub mod pooler;
pub mod scratch;
pub mod statement;
pub mod storm;
pub mod watch;
pub mod wire;

pub use cluster::{Backup, Cluster};
pub use scratch::Scratch;
pub use wire::{Reply, Wire};
