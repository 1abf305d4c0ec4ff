//! What the measuring asks of a client, whichever side it is on.

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

pub const REQUEST: &str = r#"{"customer": "Ada", "amount": 25.00}"#;
/// What the finished keys are answered with; bench/preload.sql and bench/redis.py have finished them.
pub const FINISHED_ANSWER: &str = r#"{"state": "paid", "payment": 1}"#;

/// The answer that stands for a payment, spelled as jsonb spells it.
pub fn answer(payment: i64) -> String {
    format!(r#"{{"state": "paid", "payment": {payment}}}"#)
}

pub trait Caller: Send {
    /// What is measured: one request of a key, from its arrival to its answer. Any other outcome than the one that the
    /// scenario is about is an error.
    fn call(&mut self, key: &str) -> Result<String>;

    /// The answer that is kept for a key that was called, where answers are kept.
    fn kept(&mut self, key: &str) -> Result<Option<String>>;

    /// Microseconds of processor time that the backend of this client has used; none where Postgres is not asked.
    fn clock(&mut self) -> Result<Option<f64>>;
}
