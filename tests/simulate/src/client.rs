//! What clients do: when they call, how long their work takes, how often and how late they call again.

use fastrand::Rng;
use rules::identity::{Identity, RecordId};
use rules::policy::Policy;
use rules::{Micros, Timestamp, dating};

use crate::plan::{Operation, SKEW};
use crate::{HOUR, SECOND};

/// 1970-01-01 00:00 UTC.
const UNIX_EPOCH: Timestamp = -946_684_800_000_000;
/// A client that was not answered for so long gives up.
pub const PATIENCE: Micros = 2 * HOUR;
/// Of one thousand answers so many are lost on their way.
const LOST: u32 = 5;

/// A key that is played.
#[derive(Clone, Debug)]
pub struct Key {
    pub operation: usize,
    pub text: String,
    pub id: RecordId,
    pub slot: u16,
}

impl Key {
    pub fn draw(operations: &[Operation], now: Timestamp, rng: &mut Rng) -> Self {
        let mut draw = rng.u32(..100);
        let operation = operations
            .iter()
            .position(|operation| {
                let chosen = draw < operation.share;
                draw = draw.saturating_sub(operation.share);
                chosen
            })
            .unwrap_or(0);
        let text = if operations[operation].dated {
            let mut random = [0; 10];
            rng.fill(&mut random);
            // A client's clock is off by less than the skew.
            dating::new_key(now - UNIX_EPOCH + rng.i64(-SKEW / 2..SKEW / 2), random)
        } else {
            format!("order {}", rng.u64(..))
        };
        // One in two has an owner of its own, as a tenant of many.
        let scope =
            if rng.bool() { format!("tenant-{}", rng.u32(..1_000_000)) } else { String::new() };
        let name = operations[operation].name.as_bytes();
        let identity = Identity::new(Some(name), Some(scope.as_bytes()), Some(text.as_bytes()))
            .expect("operation, scope and key are within the rules");
        let (id, slot) = (identity.record_id(), identity.slot());
        Self { operation, text, id, slot }
    }
}

/// When the key is called, beside the first time: a double click, a message that is delivered again, a client that comes back.
pub fn deliveries(rng: &mut Rng) -> Vec<Micros> {
    let mut after = vec![0];
    if rng.u32(..100) < 3 {
        after.push(rng.i64(0..20_000));
    }
    if rng.u32(..100) < 10 {
        after.push(log_uniform(SECOND, HOUR, rng));
    }
    if rng.u32(..100) < 5 {
        after.push(log_uniform(HOUR / 4, 30 * HOUR, rng));
    }
    after
}

/// Between two tries.
pub fn pause(tries: u32, rng: &mut Rng) -> Micros {
    let longest = (50_000_i64 << tries.min(9)).min(30 * SECOND);
    rng.i64(longest / 2..=longest)
}

/// From a client to a node, or back.
pub fn way(rng: &mut Rng) -> Micros {
    rng.i64(200..20_000)
}

pub fn is_lost(rng: &mut Rng) -> bool {
    rng.u32(..1_000) < LOST
}

/// How long a transaction takes.
pub fn transaction(rng: &mut Rng) -> Micros {
    if rng.u32(..1_000) < 5 {
        log_uniform(SECOND, 10 * SECOND, rng)
    } else {
        log_uniform(1_000, SECOND, rng)
    }
}

/// How long work takes that is done under a lease: longer than that, now and then.
pub fn work(policy: &Policy, rng: &mut Rng) -> Micros {
    let lease = policy.lease.unwrap_or(SECOND);
    if rng.u32(..100) < 5 {
        rng.i64(lease / 2..lease * 2)
    } else {
        log_uniform(10_000, lease / 2, rng)
    }
}

/// A holder that dies: when its client comes back.
pub fn death(policy: &Policy, rng: &mut Rng) -> Option<Micros> {
    let lease = policy.lease.unwrap_or(SECOND);
    (rng.u32(..10) == 0).then(|| log_uniform(lease, 30 * lease, rng))
}

/// Of any size between the two.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // A draw, and no account.
fn log_uniform(least: Micros, most: Micros, rng: &mut Rng) -> Micros {
    let (least, most) = (least as f64, most as f64);
    (least * (most / least).powf(rng.f64())) as Micros
}
