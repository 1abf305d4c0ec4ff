//! Sixteen connections take from one queue until every delivery has its answer.

use std::io::Write as _;
use std::thread;
use std::time::Instant;

use super::kill::Killer;
use super::log::{Entry, Fate};
use super::plan::{Delivery, Purchase, deliveries};
use super::queue::Queue;
use super::side::{Side, mark};
use super::{CONNECTIONS, Result};
use crate::connect::Server;
use crate::wire::Wire;

/// Runs one side from the first delivery to the last answer.
pub fn run(server: &Server, side: &Side, purchases: &[Purchase], seed: u64) -> Result<Vec<Entry>> {
    let started = Instant::now();
    let queue = Queue::new(deliveries(purchases.len(), seed));
    let killer = Killer::new(server, side)?;
    say(&format!("  {:<20}", side.title()));
    let entries = thread::scope(|scope| {
        let workers: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                scope.spawn(|| {
                    // A worker that fails, or panics, must not leave the others waiting for its delivery.
                    let stop = StopUnlessDone { queue: &queue, done: false };
                    work(server, side, purchases, &queue, &killer).inspect(|_| stop.done())
                })
            })
            .collect();
        let mut entries = Vec::new();
        for worker in workers {
            entries.extend(worker.join().map_err(|_| "a connection's thread panicked")??);
        }
        Result::Ok(entries)
    })?;
    say(&format!(" {:>4} s\n", started.elapsed().as_secs()));
    Ok(entries)
}

struct StopUnlessDone<'a> {
    queue: &'a Queue,
    done: bool,
}

impl StopUnlessDone<'_> {
    fn done(mut self) {
        self.done = true;
    }
}

impl Drop for StopUnlessDone<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.queue.stop();
        }
    }
}

fn work(
    server: &Server,
    side: &Side,
    purchases: &[Purchase],
    queue: &Queue,
    killer: &Killer,
) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut connection = None;
    while let Some(delivery) = queue.take() {
        let wire = match connection.take() {
            Some(wire) => wire,
            None => Wire::connect(server, "storm", &side.options())?,
        };
        let purchase = &purchases[delivery.purchase];
        let again = Delivery { attempt: delivery.attempt + 1, doom: None, ..delivery };
        let fate = if let Some(moment) = delivery.doom {
            let killed = killer.kill(wire, side, &delivery, purchase, moment)?;
            queue.next(again);
            Fate::Killed(killed)
        } else {
            let wire = connection.insert(wire);
            let (outcome, response) = deliver(wire, side, &delivery, purchase)?;
            if outcome == "in_progress" {
                queue.later(again);
            } else if let Some(percent) = queue.settled() {
                say(&format!(" {percent:>3} %"));
            }
            Fate::Answered { outcome, response }
        };
        entries.push(Entry {
            delivery: delivery.number,
            attempt: delivery.attempt,
            purchase: purchase.line,
            fate,
        });
    }
    Ok(entries)
}

fn deliver(
    wire: &mut Wire,
    side: &Side,
    delivery: &Delivery,
    purchase: &Purchase,
) -> Result<(String, Option<String>)> {
    wire.send(&format!("{} {}", mark(delivery), side.call(purchase)))?;
    let reply = wire.receive()?;
    if let Some(refusal) = reply.refusal {
        return Err(
            format!("purchase {}: {} {}", purchase.line, refusal.code, refusal.message).into()
        );
    }
    match reply.rows.as_slice() {
        [row] => match row.as_slice() {
            [Some(outcome), response]
                if ["executed", "replay", "in_progress"].contains(&outcome.as_str()) =>
            {
                Ok((outcome.clone(), response.clone()))
            }
            other => Err(format!("purchase {}: unexpected answer {other:?}", purchase.line).into()),
        },
        other => Err(format!("purchase {}: one row expected, got {other:?}", purchase.line).into()),
    }
}

fn say(words: &str) {
    let mut out = std::io::stdout();
    // A terminal that is gone is no reason to stop.
    let _ = out.write_all(words.as_bytes()).and_then(|()| out.flush());
}
