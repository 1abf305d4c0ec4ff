//! One client for each of several scenarios, by turns: what a call costs the backend, and how long its client waits for it.

use std::time::Instant;

use crate::caller::Result;
use crate::effects::Effects;
use crate::requests::Requests;
use crate::scenario::Scenario;

pub struct Plan<'a> {
    pub operation: &'a str,
    pub finished: u64,
    pub rounds: usize,
    /// Of each scenario in each round.
    pub calls: u32,
    pub scenarios: &'a [&'a str],
}

/// Prints a line a turn: the scenario, then microseconds a call, of the backend's processor time (`-` where there is none) and of time
/// that passes.
pub fn take(plan: &Plan<'_>) -> Result<()> {
    let before = Effects::before()?;
    let mut clients = plan
        .scenarios
        .iter()
        .map(|name| Requests::new(Scenario::named(name)?, plan.operation, plan.finished))
        .collect::<Result<Vec<_>>>()?;
    clients.iter_mut().try_for_each(Requests::warm_up)?;
    for round in 0..plan.rounds {
        for turn in 0..clients.len() {
            let number = whose(round, turn, clients.len());
            let (processor, passed) = one_turn(&mut clients[number], plan.calls)?;
            let processor = processor.map_or_else(|| "-".to_owned(), |time| format!("{time:.3}"));
            println!("{} {processor} {passed:.3}", plan.scenarios[number]);
        }
    }
    clients.iter_mut().try_for_each(Requests::look_again)?;
    before.check(&clients)
}

/// Another one begins each round, and every second round goes backwards.
fn whose(round: usize, turn: usize, clients: usize) -> usize {
    let turn = if round.is_multiple_of(2) { turn } else { clients - 1 - turn };
    (turn + round / 2) % clients
}

fn one_turn(client: &mut Requests, calls: u32) -> Result<(Option<f64>, f64)> {
    let before = client.clock()?;
    let began = Instant::now();
    (0..calls).try_for_each(|_| client.one())?;
    let passed = began.elapsed().as_secs_f64() * 1e6;
    let after = client.clock()?;
    let calls = f64::from(calls);
    Ok((before.zip(after).map(|(before, after)| (after - before) / calls), passed / calls))
}
