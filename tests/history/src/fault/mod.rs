//! What befalls clients and server: a cluster of our own that may be killed, a proxy that may be cut, and who does it.

pub mod cluster;
pub mod injector;
pub mod proxy;
