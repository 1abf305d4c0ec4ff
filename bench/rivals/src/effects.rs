//! What calls leave behind: as many payments, and keys in Redis, as they should.

use crate::caller::Result;
use crate::requests::Requests;
use crate::rival::Redis;
use crate::session::{Session, Store};

pub struct Effects {
    last_payment: i64,
    redis_keys: u64,
}

impl Effects {
    /// Before the first call.
    pub fn before() -> Result<Self> {
        let row = session()?.one("SELECT coalesce(max(id), 0) FROM bench.payment", &[])?;
        Ok(Self { last_payment: row.try_get(0)?, redis_keys: redis_keys()? })
    }

    /// After the last.
    pub fn check(&self, clients: &[Requests]) -> Result<()> {
        let made = |which: fn(&Requests) -> bool| -> u64 {
            clients.iter().filter(|client| which(client)).map(|client| client.made).sum()
        };
        let payments: i64 = session()?
            .one("SELECT count(*) FROM bench.payment WHERE id > $1", &[&self.last_payment])?
            .try_get(0)?;
        expect("payments", payments.try_into()?, made(|client| client.scenario.pays()))?;
        let keys = redis_keys()?.saturating_sub(self.redis_keys);
        expect("keys in Redis", keys, made(|client| client.scenario.fills_redis()))
    }
}

fn session() -> Result<Session> {
    Session::open("", Store::Nowhere)
}

fn redis_keys() -> Result<u64> {
    Ok(Redis::InMemory.keys()? + Redis::Logging.keys()?)
}

fn expect(what: &str, new: u64, due: u64) -> Result<()> {
    if new != due {
        return Err(format!("{new} {what} are new, {due} were due").into());
    }
    Ok(())
}
