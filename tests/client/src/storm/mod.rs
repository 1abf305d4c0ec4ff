//! The storm: real purchases, each delivered five times, shuffled, over sixteen connections, a tenth of them killed
//! in flight and delivered again. Once through the extension, once by calling the same handler directly. It delivers
//! and writes down what happened to each delivery; judging that is left to SQL.

pub mod kill;
pub mod log;
pub mod plan;
pub mod queue;
pub mod side;
pub mod worker;

/// How often each purchase is delivered.
pub const DELIVERIES: usize = 5;
/// How many connections deliver.
pub const CONNECTIONS: usize = 16;
/// One delivery in so many is killed in flight.
pub const KILLED_ONE_IN: usize = 10;

/// Whatever stops a storm, in words.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
