//! What befalls clients and server: a proxy that may be cut, and who cuts, kills and crashes.

pub mod injector;
pub mod proxy;
