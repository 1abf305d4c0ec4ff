//! What can be measured, by name.

use crate::caller::{Caller, Result};
use crate::{ours, rival};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// `idempotent_run` with a handler of one insert.
    Run,
    /// BEGIN, claim, insert, complete, COMMIT.
    Block,
    /// SET NX EX in Redis, the insert in Postgres, SET.
    RedisFirst,
    /// `idempotent_replay` of a finished key.
    Replay,
    /// `idempotent_run` of a finished key.
    Retry,
    /// SET NX EX, GET.
    RedisReplay,
    /// SET NX EX GET.
    RedisAsk,
}

impl Scenario {
    pub fn named(name: &str) -> Result<Self> {
        Ok(match name {
            "run" => Self::Run,
            "block" => Self::Block,
            "redis-first" => Self::RedisFirst,
            "replay" => Self::Replay,
            "retry" => Self::Retry,
            "redis-replay" => Self::RedisReplay,
            "redis-ask" => Self::RedisAsk,
            _ => return Err(format!("no scenario is called {name}").into()),
        })
    }

    /// Whether each call is the first of its key, and makes a payment.
    pub fn pays(self) -> bool {
        matches!(self, Self::Run | Self::Block | Self::RedisFirst)
    }

    /// A client of its own, connected.
    pub fn caller(self, operation: &str) -> Result<Box<dyn Caller>> {
        Ok(match self {
            Self::Run => Box::new(ours::Run::new(operation, "executed")?),
            Self::Block => Box::new(ours::Block::new(operation)?),
            Self::RedisFirst => Box::new(rival::First::new(operation)?),
            Self::Replay => Box::new(ours::Replay::new(operation)?),
            Self::Retry => Box::new(ours::Run::new(operation, "replay")?),
            Self::RedisReplay => Box::new(rival::Replay::new(operation)?),
            Self::RedisAsk => Box::new(rival::Ask::new(operation)?),
        })
    }
}
