//! What can be measured, by name.

use crate::block::{Block, Sent};
use crate::caller::{Caller, Result};
use crate::rival::{self, Redis};
use crate::session::Store;
use crate::single::{self, Single};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// `idempotent_run` with a handler of one insert.
    Run,
    /// `idempotent_run` of a finished key.
    Retry,
    /// `idempotent_claim` of a finished key.
    Claim,
    /// `idempotent_replay` of a finished key.
    Replay,
    /// BEGIN, claim, insert, complete, COMMIT.
    Block(Sent),
    /// A PL/pgSQL function that does what `idempotent_run` does, with a table by hand.
    HandRun,
    /// BEGIN, insert on conflict, insert, update, COMMIT.
    HandBlock(Sent),
    /// SELECT by primary key from the table by hand.
    Select,
    /// The handler of the runs, alone.
    Handler,
    /// A SELECT of a constant.
    Constant,
    /// SET NX EX in Redis, the insert in Postgres, SET.
    RedisFirst(Redis),
    /// SET NX EX, GET.
    RedisReplay,
    /// SET NX EX GET.
    RedisAsk,
}

impl Scenario {
    pub fn named(name: &str) -> Result<Self> {
        Ok(match name {
            "run" => Self::Run,
            "retry" => Self::Retry,
            "claim" => Self::Claim,
            "replay" => Self::Replay,
            "block" => Self::Block(Sent::OneByOne),
            "block-pipelined" => Self::Block(Sent::Pipelined),
            "hand-run" => Self::HandRun,
            "hand-block" => Self::HandBlock(Sent::OneByOne),
            "hand-block-pipelined" => Self::HandBlock(Sent::Pipelined),
            "select" => Self::Select,
            "handler" => Self::Handler,
            "constant" => Self::Constant,
            "redis-first" => Self::RedisFirst(Redis::InMemory),
            "redis-first-logging" => Self::RedisFirst(Redis::Logging),
            "redis-replay" => Self::RedisReplay,
            "redis-ask" => Self::RedisAsk,
            _ => return Err(format!("no scenario is called {name}").into()),
        })
    }

    /// Whether each call is the first of its key, and makes a payment.
    pub fn pays(self) -> bool {
        !matches!(
            self,
            Self::Retry
                | Self::Claim
                | Self::Replay
                | Self::Select
                | Self::Constant
                | Self::RedisReplay
                | Self::RedisAsk
        )
    }

    /// Whether each call leaves a key in Redis.
    pub fn fills_redis(self) -> bool {
        matches!(self, Self::RedisFirst(_))
    }

    /// A client of its own, connected.
    pub fn caller(self, operation: &str) -> Result<Box<dyn Caller>> {
        let single =
            |call| Single::new(operation, call).map(|caller| Box::new(caller) as Box<dyn Caller>);
        match self {
            Self::Run => single(single::RUN),
            Self::Retry => single(single::RETRY),
            Self::Claim => single(single::CLAIM),
            Self::Replay => single(single::REPLAY),
            Self::HandRun => single(single::HAND_RUN),
            Self::Select => single(single::SELECT),
            Self::Handler => single(single::HANDLER),
            Self::Constant => single(single::CONSTANT),
            Self::Block(sent) => Ok(Box::new(Block::new(operation, Store::Ours, sent)?)),
            Self::HandBlock(sent) => Ok(Box::new(Block::new(operation, Store::ByHand, sent)?)),
            Self::RedisFirst(redis) => Ok(Box::new(rival::First::new(operation, redis)?)),
            Self::RedisReplay => Ok(Box::new(rival::Replay::new(operation)?)),
            Self::RedisAsk => Ok(Box::new(rival::Ask::new(operation)?)),
        }
    }
}
