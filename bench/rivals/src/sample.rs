//! One sample: so many clients, each a thread, call as fast as they are answered for so long. What comes back is checked
//! before a figure is told.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::caller::{Caller, FINISHED_ANSWER, Result};
use crate::scenario::Scenario;
use crate::{ours, rival};

/// Calls of each client before the clock runs: a new connection has to fill its caches.
const WARM_UP: u64 = 20;

pub struct Plan {
    pub scenario: Scenario,
    pub operation: String,
    pub clients: usize,
    pub time: Duration,
    /// Finished keys to choose from, 1 to this.
    pub finished: u64,
}

/// What one client has done.
#[derive(Default)]
struct Done {
    warm_up: u64,
    timed: u64,
    took: Duration,
}

/// Calls per second of all clients together.
pub fn rate(plan: &Plan) -> Result<f64> {
    let before = Effects::now(0)?;
    let callers = (0..plan.clients)
        .map(|_| plan.scenario.caller(&plan.operation))
        .collect::<Result<Vec<_>>>()?;
    let start = Barrier::new(plan.clients);
    let done = thread::scope(|scope| {
        let clients: Vec<_> = callers
            .into_iter()
            .map(|caller| scope.spawn(|| one_client(plan, caller, &start)))
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().map_err(|_| "a client panicked")?)
            .collect::<Result<Vec<Done>>>()
    })?;
    Effects::now(before.last_payment)?.check(plan.scenario, &before, &done)?;
    let took = done.iter().map(|client| client.took).max().unwrap_or_default();
    Ok(timed(&done) as f64 / took.as_secs_f64())
}

fn timed(done: &[Done]) -> u64 {
    done.iter().map(|client| client.timed).sum()
}

fn one_client(plan: &Plan, mut caller: Box<dyn Caller>, start: &Barrier) -> Result<Done> {
    let mut client = Client { plan, caller: caller.as_mut(), last: None };
    let mut done = Done::default();
    // Whoever fails must still come to the start: the others wait there.
    let warm = (0..WARM_UP).try_for_each(|_| client.one().map(|()| done.warm_up += 1));
    start.wait();
    warm?;
    let began = Instant::now();
    while began.elapsed() < plan.time {
        client.one()?;
        done.timed += 1;
    }
    done.took = began.elapsed();
    client.look_again()?;
    Ok(done)
}

struct Client<'a> {
    plan: &'a Plan,
    caller: &'a mut dyn Caller,
    /// The last key and its answer.
    last: Option<(String, String)>,
}

impl Client<'_> {
    fn one(&mut self) -> Result<()> {
        let number = if self.plan.scenario.pays() {
            // Far from the finished ones, and from those of any sample before.
            fastrand::u64(1 << 60..1 << 63)
        } else {
            fastrand::u64(1..=self.plan.finished)
        };
        let key = number.to_string();
        let answer = self.caller.call(&key)?;
        if !self.plan.scenario.pays() && answer != FINISHED_ANSWER {
            return Err(format!("the finished key {key} was answered with {answer}").into());
        }
        self.last = Some((key, answer));
        Ok(())
    }

    /// Whether the last answer was stored.
    fn look_again(&mut self) -> Result<()> {
        let (key, answer) = self.last.take().ok_or("no call was made")?;
        let kept = self.caller.kept(&key)?;
        if kept != answer {
            return Err(format!("key {key} was answered with {answer}, and keeps {kept}").into());
        }
        Ok(())
    }
}

/// What calls leave behind.
struct Effects {
    last_payment: i64,
    /// Made after the one that was asked about.
    payments: u64,
    redis_keys: u64,
}

impl Effects {
    fn now(after: i64) -> Result<Self> {
        let row = ours::connect()?.query_one(
            "SELECT coalesce(max(id), 0), count(*) FROM bench.payment WHERE id > $1",
            &[&after],
        )?;
        Ok(Self {
            last_payment: row.try_get(0)?,
            payments: row.try_get::<_, i64>(1)?.try_into()?,
            redis_keys: rival::keys()?,
        })
    }

    fn check(&self, scenario: Scenario, before: &Self, done: &[Done]) -> Result<()> {
        let calls = timed(done) + done.iter().map(|client| client.warm_up).sum::<u64>();
        let due = if scenario.pays() { calls } else { 0 };
        if self.payments != due {
            return Err(format!("{} payments were made, {due} were due", self.payments).into());
        }
        let due = if scenario == Scenario::RedisFirst { calls } else { 0 };
        let new = self.redis_keys.saturating_sub(before.redis_keys);
        if new != due {
            return Err(format!("{new} keys are new in Redis, {due} were due").into());
        }
        Ok(())
    }
}
