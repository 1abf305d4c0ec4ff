//! Calls of the patterns beside the core: messages, offsets, locks with a key, and an operation that is only observed.
//!
//! They are about no key. Whoever is told to do the work leaves a trace of it in the same transaction, as the business row
//! does for a key.

pub mod saga;
pub mod topic;

use saga::Saga;
use serde::{Deserialize, Serialize};
use topic::{How, Topic};

use crate::history::{KeyId, Outcome};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// Which of the messages are new? The number is that of the traces.
    First {
        /// Index into the setup's operations, whose retention is the consumer's.
        consumer: u32,
        /// One is asked for by itself, more as a batch.
        messages: Vec<u32>,
        number: u64,
    },
    Advance {
        partition: u32,
        offset: i64,
        number: u64,
    },
    Lock {
        resource: u32,
        holder: u32,
        ttl_ms: u64,
    },
    Unlock {
        resource: u32,
        holder: u32,
        fence: i64,
    },
    Watched {
        key: u32,
        how: Watched,
    },
    Saga(Saga),
    Topic(Topic),
}

/// What is called of the operation that is only observed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Watched {
    Claim {
        request: u32,
        lease_ms: Option<u64>,
    },
    Complete {
        fence: Option<i64>,
    },
    Release {
        fence: Option<i64>,
    },
    /// The handler leaves the trace.
    Run {
        request: u32,
        number: u64,
    },
}

/// What is in the database when all is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trace {
    Message {
        consumer: u32,
        message: u32,
        number: u64,
    },
    /// Their places say in which order they were accepted.
    Offset {
        partition: u32,
        offset: i64,
        place: i64,
        number: u64,
    },
    Watched {
        number: u64,
    },
    /// A step of a saga that has run, or its compensation. Their places say in which order.
    Saga {
        place: i64,
        key: u32,
        step: u32,
        undone: bool,
        /// None, if it ran within a call of several steps.
        number: Option<u64>,
    },
    /// A message of the topic that nobody has acknowledged.
    Waiting {
        message: u64,
    },
    /// Where the extension says that the consumer is.
    Position {
        partition: u32,
        offset: i64,
    },
}

impl Trace {
    /// Of the call that left it.
    pub fn number(&self) -> Option<u64> {
        match self {
            Self::Message { number, .. }
            | Self::Offset { number, .. }
            | Self::Watched { number } => Some(*number),
            Self::Saga { number, .. } => *number,
            Self::Position { .. } | Self::Waiting { .. } => None,
        }
    }

    pub fn subject(&self) -> Option<KeyId> {
        match self {
            Self::Message { consumer, .. } => Some(consumer_subject(*consumer)),
            Self::Offset { partition, .. } | Self::Position { partition, .. } => {
                Some(partition_subject(*partition))
            }
            Self::Saga { key, .. } => Some(saga_subject(*key)),
            Self::Waiting { .. } => Some(TOPIC),
            Self::Watched { .. } => None,
        }
    }
}

/// What calls are about that are about no key has a number, too, far above those of keys.
const SUBJECTS: KeyId = 4_000_000_000;

pub fn consumer_subject(consumer: u32) -> KeyId {
    SUBJECTS + consumer
}

pub fn partition_subject(partition: u32) -> KeyId {
    SUBJECTS + 1_000 + partition
}

pub fn resource_subject(resource: u32) -> KeyId {
    SUBJECTS + 2_000 + resource
}

pub fn watched_subject(key: u32) -> KeyId {
    SUBJECTS + 3_000 + key
}

pub const TOPIC: KeyId = SUBJECTS + 200_000_000;

pub fn saga_subject(key: u32) -> KeyId {
    SUBJECTS + 100_000_000 + key
}

impl Pattern {
    pub fn subject(&self) -> KeyId {
        match self {
            Self::First { consumer, .. } => consumer_subject(*consumer),
            Self::Advance { partition, .. } => partition_subject(*partition),
            Self::Lock { resource, .. } | Self::Unlock { resource, .. } => {
                resource_subject(*resource)
            }
            Self::Watched { key, .. } => watched_subject(*key),
            Self::Saga(saga) => saga_subject(saga.key()),
            Self::Topic(_) => TOPIC,
        }
    }

    /// Whose data it is about, if it is about any: see `rules::slot`.
    pub fn owner(&self) -> Option<String> {
        Some(match self {
            Self::First { consumer, .. } => scope(*consumer),
            Self::Advance { partition, .. } => partition.to_string(),
            Self::Lock { resource, .. } | Self::Unlock { resource, .. } => resource.to_string(),
            Self::Watched { key, .. } => key.to_string(),
            Self::Saga(saga) => saga.key().to_string(),
            Self::Topic(Topic { how: How::Put { lane, .. }, .. }) => lane.to_string(),
            // Of whatever the node has.
            Self::Topic(_) => return None,
        })
    }

    /// The number of the traces that the call may leave.
    pub fn number(&self) -> Option<u64> {
        match self {
            Self::First { number, .. }
            | Self::Advance { number, .. }
            | Self::Watched { how: Watched::Run { number, .. }, .. } => Some(*number),
            Self::Saga(saga) => saga.number(),
            _ => None,
        }
    }

    /// Whether somebody who was answered this has left a trace.
    pub fn leaves_a_trace(&self, outcome: &Outcome) -> bool {
        match (self, outcome) {
            (Self::First { .. }, Outcome::Done(new)) => !new.is_empty(),
            (Self::Advance { .. }, Outcome::Done(moved)) => moved == "t",
            (Self::Watched { how: Watched::Run { .. }, .. }, Outcome::Done(_)) => true,
            (Self::Saga(saga), _) => saga.has_run(outcome),
            _ => false,
        }
    }

    /// Whether somebody who was answered this may have left one.
    pub fn may_leave_a_trace(&self, outcome: &Outcome) -> bool {
        match self {
            Self::Saga(_) => outcome.is_ok(),
            _ => self.leaves_a_trace(outcome),
        }
    }

    /// In a word or two, for the figures.
    pub fn said(&self, outcome: &Outcome) -> Option<&'static str> {
        let Outcome::Done(done) = outcome else { return None };
        Some(match (self, done.as_str()) {
            (Self::First { .. }, "") => "seen",
            (Self::First { .. }, _) => "new",
            (Self::Advance { .. }, "t") => "advanced",
            (Self::Advance { .. }, _) => "behind",
            (Self::Lock { .. }, _) if fence(outcome).is_some() => "locked",
            (Self::Lock { .. }, _) => "locked by another",
            (Self::Unlock { .. }, "t") => "unlocked",
            (Self::Unlock { .. }, _) => "not unlocked",
            (Self::Watched { .. }, _) => "observed",
            (Self::Saga(Saga::Settle { .. }), _) => "saga settled",
            (Self::Saga(Saga::Abandon { .. }), _) => "saga given up",
            (Self::Saga(Saga::Forget { .. }), "t") => "saga forgotten",
            (Self::Saga(Saga::Forget { .. }), _) => "no saga to forget",
            (Self::Topic(topic), done) => match topic.how {
                How::Put { .. } => "message put",
                How::Take { .. } if topic::taken(outcome).is_some() => "messages taken",
                How::Take { .. } => "no message",
                How::Ack { .. } if done != "0" => "messages acknowledged",
                How::Release { .. } if done != "0" => "messages given back",
                How::Ack { .. } | How::Release { .. } => "no message any more",
            },
            (Self::Saga(saga), _) => match saga::end(*saga, outcome) {
                Some(("executed", _)) => "saga ended",
                Some(_) => "saga replayed",
                None if saga.has_run(outcome) => "step done",
                None => "saga goes on",
            },
        })
    }
}

/// All messages of a consumer are of one owner, so that a batch is on one node.
pub fn scope(consumer: u32) -> String {
    format!("consumer {consumer}")
}

/// The new messages that were told.
pub fn told(outcome: &Outcome) -> Vec<u32> {
    match outcome {
        Outcome::Done(new) => new.split(',').filter_map(|message| message.parse().ok()).collect(),
        _ => Vec::new(),
    }
}

/// The fence of a lock that was granted.
pub fn fence(outcome: &Outcome) -> Option<i64> {
    match outcome {
        Outcome::Done(done) => done.strip_prefix("fence ")?.parse().ok(),
        _ => None,
    }
}

/// Who has the lock, if somebody else has.
pub fn other_holder(outcome: &Outcome) -> Option<u32> {
    match outcome {
        Outcome::Done(done) => done.strip_prefix("holder ")?.parse().ok(),
        _ => None,
    }
}
