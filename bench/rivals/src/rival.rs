//! Clients of the rival: the key in Redis, the payment in Postgres. Each step needs the answer to the one before it, so
//! there is nothing to send in one go. It does less than we do: no fingerprint of the request, and a client that dies
//! between its steps leaves a payment whose key says `pending` until that lapses.

use redis::{Commands, Connection, ExistenceCheck, SetExpiry, SetOptions};
use tokio_postgres::Statement;

use crate::block::PAY;
use crate::caller::{Caller, FINISHED_ANSWER, Result, answer};
use crate::session::{self, Session};

const PENDING: &str = "pending";
const RETENTION: u64 = 86_400; // seconds; ours by default, too

/// A Redis server of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redis {
    /// Never writes to disk.
    InMemory,
    /// With a log of commands that is flushed each second.
    Logging,
}

impl Redis {
    fn connect(self) -> Result<Connection> {
        let name = match self {
            Self::InMemory => "REDIS_SOCKET",
            Self::Logging => "REDIS_LOGGING_SOCKET",
        };
        let socket = std::env::var(name)
            .map_err(|_| format!("{name} must name the unix socket of a Redis server"))?;
        Ok(redis::Client::open(format!("redis+unix://{socket}"))?.get_connection()?)
    }

    /// How many keys it has.
    pub fn keys(self) -> Result<u64> {
        Ok(redis::cmd("DBSIZE").query(&mut self.connect()?)?)
    }
}

/// Finishes as many keys as bench/redis.py has finished on our side.
pub fn fill(operation: &str, keys: u64) -> Result<()> {
    let mut store = Store::open(operation, Redis::InMemory)?;
    (1..=keys).try_for_each(|number| store.put(&number.to_string(), FINISHED_ANSWER))
}

/// The keys of an operation in Redis.
struct Store {
    operation: String,
    redis: Connection,
}

impl Store {
    fn open(operation: &str, redis: Redis) -> Result<Self> {
        Ok(Self { operation: operation.to_owned(), redis: redis.connect()? })
    }

    fn name(&self, key: &str) -> String {
        format!("{}:{key}", self.operation)
    }

    /// Takes a key, or says that it is taken.
    fn take(&mut self, key: &str) -> Result<bool> {
        Ok(self.redis.set_options(self.name(key), PENDING, unless_taken())?)
    }

    /// Takes a key, or gets what is there.
    fn take_or_get(&mut self, key: &str) -> Result<Option<String>> {
        Ok(self.redis.set_options(self.name(key), PENDING, unless_taken().get(true))?)
    }

    fn put(&mut self, key: &str, answer: &str) -> Result<()> {
        Ok(self.redis.set_ex(self.name(key), answer, RETENTION)?)
    }

    fn get(&mut self, key: &str) -> Result<String> {
        Ok(self.redis.get(self.name(key))?)
    }
}

fn unless_taken() -> SetOptions {
    SetOptions::default()
        .conditional_set(ExistenceCheck::NX)
        .with_expiration(SetExpiry::EX(RETENTION))
}

/// A new key: SET NX EX, the insert, SET of the answer.
pub struct First {
    store: Store,
    postgres: Session,
    pay: Statement,
}

impl First {
    pub fn new(operation: &str, redis: Redis) -> Result<Self> {
        let postgres = Session::open(operation, session::Store::Nowhere)?;
        let pay = postgres.prepare(PAY)?;
        Ok(Self { store: Store::open(operation, redis)?, postgres, pay })
    }
}

impl Caller for First {
    fn call(&mut self, key: &str) -> Result<String> {
        if !self.store.take(key)? {
            return Err(format!("{key} was taken already").into());
        }
        let answer = answer(self.postgres.ask(&self.pay, &[])?.try_get(0)?);
        self.store.put(key, &answer)?;
        Ok(answer)
    }

    fn kept(&mut self, key: &str) -> Result<Option<String>> {
        self.store.get(key).map(Some)
    }

    fn clock(&mut self) -> Result<Option<f64>> {
        self.postgres.clock()
    }
}

/// A finished key: SET NX EX is refused, GET has the answer. Postgres is not asked.
pub struct Replay(Store);

impl Replay {
    pub fn new(operation: &str) -> Result<Self> {
        Ok(Self(Store::open(operation, Redis::InMemory)?))
    }
}

impl Caller for Replay {
    fn call(&mut self, key: &str) -> Result<String> {
        if self.0.take(key)? {
            return Err(format!("{key} was not taken").into());
        }
        self.0.get(key)
    }

    fn kept(&mut self, key: &str) -> Result<Option<String>> {
        self.0.get(key).map(Some)
    }

    fn clock(&mut self) -> Result<Option<f64>> {
        Ok(None)
    }
}

/// The same in one command, which few guides know: SET NX EX GET.
pub struct Ask(Store);

impl Ask {
    pub fn new(operation: &str) -> Result<Self> {
        Ok(Self(Store::open(operation, Redis::InMemory)?))
    }
}

impl Caller for Ask {
    fn call(&mut self, key: &str) -> Result<String> {
        self.0.take_or_get(key)?.ok_or_else(|| format!("{key} was not taken").into())
    }

    fn kept(&mut self, key: &str) -> Result<Option<String>> {
        self.0.get(key).map(Some)
    }

    fn clock(&mut self) -> Result<Option<f64>> {
        Ok(None)
    }
}
