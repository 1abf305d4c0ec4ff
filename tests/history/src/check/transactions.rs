//! What became of each transaction, and which of its statements were undone before its end.

use std::collections::{BTreeMap, HashMap};

use crate::history::{Call, Event, Nanos, Outcome, TxnId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was known to be committed at that moment; `Nanos::MAX`: it turned out in the end.
    Committed {
        by: Nanos,
    },
    Aborted,
    /// Nobody was told.
    Unknown,
}

impl Fate {
    pub fn may_have_committed(self) -> bool {
        self != Self::Aborted
    }

    pub fn is_committed(self) -> bool {
        matches!(self, Self::Committed { .. })
    }

    /// When it was known to be committed, if ever.
    pub fn known_by(self) -> Nanos {
        match self {
            Self::Committed { by } => by,
            Self::Aborted | Self::Unknown => Nanos::MAX,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Transaction {
    /// Its events, in order: indexes into the history's.
    pub events: Vec<usize>,
    pub fate: Fate,
    /// As long was it certainly open: its claims were certainly held until then.
    pub open_until: Nanos,
    pub explicit: bool,
    /// For each event that was undone: when that began.
    undone: HashMap<usize, Nanos>,
}

impl Transaction {
    pub fn undone_at(&self, event: usize) -> Option<Nanos> {
        self.undone.get(&event).copied()
    }
}

pub fn of(events: &[Event]) -> BTreeMap<TxnId, Transaction> {
    let mut members: BTreeMap<TxnId, Vec<usize>> = BTreeMap::new();
    for (at, event) in events.iter().enumerate() {
        members.entry(event.txn).or_default().push(at);
    }
    let settled = Settled::of(events);
    members
        .into_iter()
        .map(|(txn, members)| (txn, transaction(events, members, &settled)))
        .collect()
}

fn transaction(events: &[Event], members: Vec<usize>, settled: &Settled) -> Transaction {
    let explicit = members.iter().any(|at| matches!(events[*at].call, Call::Begin { .. }));
    let last = members.last().map(|at| &events[*at]);
    let fate = last.map_or(Fate::Unknown, |last| fate(last, explicit, settled));
    let undone = undone(events, &members);
    let open_until = open_until(events, &members, settled);
    Transaction { events: members, fate, open_until, explicit, undone }
}

fn fate(last: &Event, explicit: bool, settled: &Settled) -> Fate {
    match (&last.call, &last.outcome) {
        _ if !explicit => match &last.outcome {
            Outcome::Row(_) | Outcome::Done(_) => Fate::Committed { by: last.end },
            Outcome::Refused(_) => Fate::Aborted,
            Outcome::Lost => Fate::Unknown,
        },
        (Call::Commit, Outcome::Done(tag)) if tag == "COMMIT" => Fate::Committed { by: last.end },
        (Call::Commit, Outcome::Lost) => Fate::Unknown,
        (Call::Prepare { gid }, Outcome::Done(tag)) if tag == "PREPARE TRANSACTION" => {
            settled.fate(gid)
        }
        (Call::Prepare { gid }, Outcome::Lost) => settled.fate(gid),
        // Rolled back, refused, or its connection was lost before COMMIT was sent.
        _ => Fate::Aborted,
    }
}

/// What was said of prepared transactions by those who settled them.
struct Settled {
    fates: HashMap<String, Fate>,
    /// When the first began to try.
    tried: HashMap<String, Nanos>,
}

impl Settled {
    fn of(events: &[Event]) -> Self {
        let mut settled = Self { fates: HashMap::new(), tried: HashMap::new() };
        for event in events {
            let (gid, commits) = match &event.call {
                Call::CommitPrepared { gid } => (gid, true),
                Call::RollbackPrepared { gid } => (gid, false),
                _ => continue,
            };
            let tried = settled.tried.entry(gid.clone()).or_insert(event.start);
            *tried = (*tried).min(event.start);
            if event.outcome.is_ok() {
                let fate = if commits { Fate::Committed { by: event.end } } else { Fate::Aborted };
                settled.fates.insert(gid.clone(), fate);
            }
        }
        settled
    }

    fn fate(&self, gid: &str) -> Fate {
        self.fates.get(gid).copied().unwrap_or(Fate::Unknown)
    }
}

/// An answer shows that the server was at work on it at some moment after the statement was sent, and so that the
/// transaction was open when it was sent.
fn open_until(events: &[Event], members: &[usize], settled: &Settled) -> Nanos {
    let answered =
        members.iter().rev().map(|at| &events[*at]).find(|event| event.outcome != Outcome::Lost);
    match answered {
        None => 0,
        Some(Event { call: Call::Prepare { gid }, outcome: Outcome::Done(tag), .. })
            if tag == "PREPARE TRANSACTION" =>
        {
            settled.tried.get(gid).copied().unwrap_or(Nanos::MAX)
        }
        Some(event) => event.start,
    }
}

/// ROLLBACK TO undoes what came after the savepoint, and so does an error, at once.
fn undone(events: &[Event], members: &[usize]) -> HashMap<usize, Nanos> {
    let mut undone = HashMap::new();
    let mut savepoints: Vec<(u32, usize)> = Vec::new();
    let mut undo = |from: usize, to: usize, when: Nanos| {
        for at in &members[from..to] {
            undone.entry(*at).or_insert(when);
        }
    };
    for (position, at) in members.iter().enumerate() {
        let event = &events[*at];
        match (&event.call, &event.outcome) {
            (_, Outcome::Refused(_)) => {
                undo(savepoints.last().map_or(0, |(_, from)| *from), position, event.start);
            }
            (Call::Savepoint { name }, Outcome::Done(_)) => savepoints.push((*name, position + 1)),
            (Call::RollbackTo { name }, Outcome::Done(_)) => {
                if let Some(depth) = savepoints.iter().rposition(|(known, _)| known == name) {
                    undo(savepoints[depth].1, position, event.start);
                    savepoints.truncate(depth);
                    savepoints.push((*name, position + 1));
                }
            }
            (Call::ReleaseSavepoint { name }, Outcome::Done(_)) => {
                if let Some(depth) = savepoints.iter().rposition(|(known, _)| known == name) {
                    savepoints.truncate(depth);
                }
            }
            _ => {}
        }
    }
    undone
}
