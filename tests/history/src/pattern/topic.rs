//! A topic of the outbox, with a role that puts and one that takes. Clients come in each role, and as outsiders.

use serde::{Deserialize, Serialize};

use crate::history::Outcome;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Sender,
    Relay,
    Outsider,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Topic {
    pub role: Role,
    pub how: How,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Messages of one lane are sent in order. The number is the message.
    Put {
        lane: u32,
        number: u64,
    },
    Take {
        batch: u32,
        lease_ms: u64,
    },
    /// Of what was taken: numbers and ids.
    Ack {
        messages: Vec<(u64, String)>,
        fence: i64,
    },
    Release {
        messages: Vec<(u64, String)>,
        fence: i64,
    },
}

impl Topic {
    /// Whether the role may do that.
    pub fn is_allowed(&self) -> bool {
        match self.how {
            How::Put { .. } => self.role == Role::Sender,
            _ => self.role == Role::Relay,
        }
    }

    pub fn number(&self) -> Option<u64> {
        match self.how {
            How::Put { number, .. } => Some(number),
            _ => None,
        }
    }

    /// Whether all of these messages were acknowledged or given back.
    pub fn did_all(&self, outcome: &Outcome) -> bool {
        match &self.how {
            How::Ack { messages, .. } | How::Release { messages, .. } => {
                outcome.is_done(&messages.len().to_string())
            }
            _ => false,
        }
    }
}

/// What a take has brought: the fence, and the messages in their order, numbers and ids.
pub fn taken(outcome: &Outcome) -> Option<(i64, Vec<(u64, String)>)> {
    let Outcome::Done(done) = outcome else { return None };
    let (fence, messages) = done.split_once('|')?;
    let messages = (messages.split(','))
        .filter_map(|message| {
            let (number, id) = message.split_once('=')?;
            Some((number.parse().ok()?, id.to_owned()))
        })
        .collect();
    Some((fence.parse().ok()?, messages))
}
