//! Draws calls of a topic, of all roles, and of such as may not.

use fastrand::Rng;

use super::patterns::PatternStep;
use crate::pattern::topic::Role;

const LANES: u32 = 8;

/// What becomes of a batch that was taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TopicStep {
    Put {
        lane: u32,
    },
    Take {
        batch: u32,
        lease_ms: u64,
    },
    /// Of what the client took last.
    Ack,
    Release,
}

pub fn draw(rng: &mut Rng) -> Vec<PatternStep> {
    let put = TopicStep::Put { lane: rng.u32(..LANES) };
    let take = TopicStep::Take {
        batch: [1, 5, 20][rng.usize(..3)],
        lease_ms: [15, 200, 1_000, 2_000][rng.usize(..4)],
    };
    let (role, step) = match rng.u32(..20) {
        0..7 => (Role::Sender, put),
        7..12 => (Role::Relay, take),
        12..17 => (Role::Relay, TopicStep::Ack),
        17 => (Role::Relay, TopicStep::Release),
        18 => (Role::Outsider, [put, take, TopicStep::Ack][rng.usize(..3)]),
        _ if rng.bool() => (Role::Sender, [take, TopicStep::Ack][rng.usize(..2)]),
        _ => (Role::Relay, put),
    };
    vec![PatternStep::Topic(role, step)]
}
