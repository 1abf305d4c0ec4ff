//! One sample: so many clients, each a thread, call as fast as they are answered for so long. What comes back is checked
//! before a figure is told.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::caller::Result;
use crate::effects::Effects;
use crate::requests::Requests;
use crate::scenario::Scenario;

pub struct Plan {
    pub scenario: Scenario,
    pub operation: String,
    pub clients: usize,
    pub time: Duration,
    /// Finished keys to choose from, 1 to this.
    pub finished: u64,
}

/// Calls per second of all clients together.
pub fn rate(plan: &Plan) -> Result<f64> {
    let before = Effects::before()?;
    let mut clients = (0..plan.clients)
        .map(|_| Requests::new(plan.scenario, &plan.operation, plan.finished))
        .collect::<Result<Vec<_>>>()?;
    let start = Barrier::new(plan.clients);
    let done = thread::scope(|scope| {
        let threads: Vec<_> = clients
            .iter_mut()
            .map(|client| scope.spawn(|| one_client(plan.time, client, &start)))
            .collect();
        threads
            .into_iter()
            .map(|client| client.join().map_err(|_| "a client panicked")?)
            .collect::<Result<Vec<_>>>()
    })?;
    before.check(&clients)?;
    let timed: u64 = done.iter().map(|(timed, _)| timed).sum();
    let took = done.iter().map(|(_, took)| *took).max().unwrap_or_default();
    Ok(timed as f64 / took.as_secs_f64())
}

/// How many calls it made, and how long that took.
fn one_client(time: Duration, client: &mut Requests, start: &Barrier) -> Result<(u64, Duration)> {
    // A client that fails must still come to the start: the others wait there.
    let warm = client.warm_up();
    start.wait();
    warm?;
    let (before, began) = (client.made, Instant::now());
    while began.elapsed() < time {
        client.one()?;
    }
    let done = (client.made - before, began.elapsed());
    client.look_again()?;
    Ok(done)
}
