//! Draws calls of the patterns. All clients come through the same messages, offsets and keys, at about the same time.

use fastrand::Rng;

use super::sagas;
use super::topics::{self, TopicStep};
use crate::pattern;
use crate::pattern::saga::Saga;
use crate::pattern::topic::Role;

/// The longest batch of messages.
pub const BATCH: usize = 10;
/// Consumers are named as these operations are, and have their retention: a long one and a brief one.
const CONSUMERS: [u32; 2] = [0, 4];
const PARTITIONS: u32 = 3;
const RESOURCES: u32 = 3;
/// Fewer than clients, so that some of them share a key.
const HOLDERS: u32 = 5;
/// How far around their common place the clients reach.
const WINDOW: u32 = 16;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PatternStep {
    First {
        consumer: u32,
        messages: [u32; BATCH],
        count: usize,
    },
    Advance {
        partition: u32,
        offset: i64,
    },
    Lock {
        resource: u32,
        holder: u32,
        ttl_ms: u64,
    },
    /// Of what the client took last of it, whatever became of that.
    Unlock {
        resource: u32,
    },
    WatchedClaim {
        key: u32,
        request: u32,
        lease_ms: Option<u64>,
    },
    /// With the fence that was given, if one was.
    WatchedComplete {
        key: u32,
    },
    WatchedRelease {
        key: u32,
    },
    WatchedRun {
        key: u32,
        request: u32,
    },
    /// Its number is drawn when it is played.
    Saga(Saga),
    Topic(Role, TopicStep),
}

impl PatternStep {
    /// Whose data it is about, as `Pattern::owner` says of the call.
    pub fn owner(&self) -> Option<String> {
        Some(match self {
            Self::First { consumer, .. } => pattern::scope(*consumer),
            Self::Advance { partition, .. } => partition.to_string(),
            Self::Lock { resource, .. } | Self::Unlock { resource } => resource.to_string(),
            Self::WatchedClaim { key, .. }
            | Self::WatchedComplete { key }
            | Self::WatchedRelease { key }
            | Self::WatchedRun { key, .. } => key.to_string(),
            Self::Saga(saga) => saga.key().to_string(),
            Self::Topic(_, TopicStep::Put { lane }) => lane.to_string(),
            Self::Topic(..) => return None,
        })
    }
}

/// `scripts`: how many the client has played, which is about how many the others have.
pub fn draw(rng: &mut Rng, scripts: u32) -> Vec<PatternStep> {
    match rng.u32(..17) {
        0..4 => vec![first(rng, scripts)],
        4..6 => {
            let offset = i64::from(scripts / 4 + rng.u32(..WINDOW));
            vec![PatternStep::Advance { partition: rng.u32(..PARTITIONS), offset }]
        }
        6..8 => lock(rng),
        8..11 => sagas::draw(rng, scripts),
        11..15 => topics::draw(rng),
        _ => watched(rng, scripts),
    }
}

fn first(rng: &mut Rng, scripts: u32) -> PatternStep {
    let consumer = CONSUMERS[rng.usize(..CONSUMERS.len())];
    let mut messages = [0; BATCH];
    for message in &mut messages {
        *message = scripts / 2 + rng.u32(..WINDOW);
    }
    // Duplicates within a batch, too, and in any order.
    let count = if rng.bool() { 1 } else { rng.usize(2..=BATCH) };
    PatternStep::First { consumer, messages, count }
}

fn lock(rng: &mut Rng) -> Vec<PatternStep> {
    let (resource, holder) = (rng.u32(..RESOURCES), rng.u32(..HOLDERS));
    let ttl_ms = [3, 15, 60, 200][rng.usize(..4)];
    let (take, give) =
        (PatternStep::Lock { resource, holder, ttl_ms }, PatternStep::Unlock { resource });
    match rng.u32(..6) {
        0 => vec![take, take],
        1..3 => vec![take, give],
        3 => vec![give],
        _ => vec![take],
    }
}

fn watched(rng: &mut Rng, scripts: u32) -> Vec<PatternStep> {
    let (key, request) = (scripts / 8 + rng.u32(..3), u32::from(rng.u32(..8) == 0));
    let lease_ms = [None, None, Some(15), Some(200)][rng.usize(..4)];
    let claim = PatternStep::WatchedClaim { key, request, lease_ms };
    let (complete, release) =
        (PatternStep::WatchedComplete { key }, PatternStep::WatchedRelease { key });
    match rng.u32(..8) {
        0..3 => vec![claim, complete],
        3 => vec![claim, release],
        // Forgotten, which is nobody's affair yet.
        4 => vec![claim],
        5 => vec![complete],
        _ => vec![PatternStep::WatchedRun { key, request }],
    }
}
