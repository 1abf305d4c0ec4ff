//! What a history says about each key: who was given it, what was done, and what was answered.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use serde_json::Value;

use super::settings::Settings;
use super::transactions::{self, Fate, Transaction};
use super::{MARGIN, MS};
use crate::answer;
use crate::history::{
    Call, Dating, Effect, Event, History, Key, KeyId, Nanos, Operation, Outcome, TxnId,
};
use crate::pattern::Trace;

pub struct Facts<'a> {
    pub history: &'a History,
    pub txns: BTreeMap<TxnId, Transaction>,
    pub keys: BTreeMap<KeyId, KeyFacts<'a>>,
}

/// One key's part of the history.
pub struct KeyFacts<'a> {
    pub key: &'a Key,
    pub operation: &'a Operation,
    pub settings: Rc<Settings>,
    /// Of several nodes one may crash, and what is at the others lasts.
    has_nodes: bool,
    /// The calls about it, in order: indexes into the history's events.
    pub calls: Vec<usize>,
    pub grants: Vec<Grant>,
    pub answers: Vec<Answer>,
    pub effects: Vec<&'a Effect>,
}

/// Somebody was told `claimed` or `executed`.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The first event that said so.
    pub event: usize,
    pub key: KeyId,
    pub txn: TxnId,
    pub node: u32,
    pub epoch: i64,
    /// Since when it may have been granted: earlier than the event if its name was used before.
    pub asked: Nanos,
    pub told: Nanos,
    /// `None`: held by the transaction.
    pub fence: Option<i64>,
    pub lease_ms: u64,
    pub attempt: i64,
    pub request: u32,
    pub attempt_id: Option<String>,
    pub undone_at: Option<Nanos>,
    pub fate: Fate,
}

/// An answer that somebody stored, or may have.
#[derive(Clone, Debug)]
pub struct Answer {
    pub number: u64,
    pub event: usize,
    pub txn: TxnId,
    pub epoch: i64,
    pub fence: Option<i64>,
    pub response: Value,
    pub failed: bool,
    pub status: Option<i64>,
    /// The request that the key was claimed with, if that is known.
    pub request: Option<u32>,
    pub undone: bool,
    pub fate: Fate,
}

impl Answer {
    pub fn is_committed(&self) -> bool {
        self.fate.is_committed() && !self.undone
    }
}

impl<'a> Facts<'a> {
    pub fn of(history: &'a History) -> Self {
        let mut txns = transactions::of(&history.events);
        find_out_fates(history, &mut txns);
        let mut effects: HashMap<KeyId, Vec<&Effect>> = HashMap::new();
        for effect in &history.effects {
            effects.entry(effect.key).or_default().push(effect);
        }
        let mut calls: HashMap<KeyId, Vec<usize>> = HashMap::new();
        for (at, event) in history.events.iter().enumerate() {
            if let Some(key) = event.call.key() {
                calls.entry(key).or_default().push(at);
            }
        }
        let settings: Vec<Rc<Settings>> = (history.setup.operations.iter().enumerate())
            .map(|(number, operation)| Rc::new(Settings::of(operation, number, history, &txns)))
            .collect();
        let mut facts = Self { history, txns, keys: BTreeMap::new() };
        for key in &history.keys {
            let calls = calls.remove(&key.id).unwrap_or_default();
            let mut effects = effects.remove(&key.id).unwrap_or_default();
            effects.sort_by_key(|effect| effect.at_us);
            let grants = facts.grants(key.id, &calls);
            let answers = facts.answers(&calls, &grants);
            let operation = &history.setup.operations[key.operation];
            let settings = settings[key.operation].clone();
            let has_nodes = history.setup.nodes > 0;
            facts.keys.insert(
                key.id,
                KeyFacts { key, operation, settings, has_nodes, calls, grants, answers, effects },
            );
        }
        facts
    }

    pub fn event(&self, at: usize) -> &'a Event {
        &self.history.events[at]
    }

    pub fn txn(&self, id: TxnId) -> &Transaction {
        &self.txns[&id]
    }

    /// When the transaction of an event began, and when its last statement was over: settings are read in between.
    pub fn span(&self, event: &Event) -> (Nanos, Nanos) {
        let events = &self.txn(event.txn).events;
        let of = |at: Option<&usize>| at.map_or(event, |at| self.event(*at));
        (of(events.first()).start, of(events.last()).end)
    }

    pub fn undone_at(&self, at: usize) -> Option<Nanos> {
        self.txn(self.event(at).txn).undone_at(at)
    }

    /// Asking again for what one holds, in the transaction or by the attempt's name, is the same grant.
    fn grants(&self, key: KeyId, calls: &[usize]) -> Vec<Grant> {
        let mut grants: Vec<Grant> = Vec::new();
        for &at in calls {
            let event = self.event(at);
            let said = event.outcome.said();
            let (lease_ms, attempt_id) = match &event.call {
                Call::Claim { lease_ms, attempt_id, .. } if said == "claimed" => {
                    (*lease_ms, attempt_id.clone())
                }
                Call::Run { .. } if said == "executed" => (None, None),
                _ => continue,
            };
            let Some(row) = event.outcome.row() else { continue };
            let again = grants.iter().any(|grant| {
                let mine = grant.txn == event.txn
                    && grant.undone_at.is_none_or(|undone| undone > event.start);
                grant.fence == row.fence
                    && (mine && !self.released(grant, calls, at)
                        || row.fence.is_some()
                            && attempt_id.is_some()
                            && grant.attempt_id == attempt_id)
            });
            if again {
                continue;
            }
            let txn = self.txn(event.txn);
            grants.push(Grant {
                event: at,
                key,
                txn: event.txn,
                node: event.node,
                epoch: event.epoch,
                asked: self.first_asked(calls, at, attempt_id.as_ref()),
                told: event.end,
                fence: row.fence,
                lease_ms: lease_ms.unwrap_or(0),
                attempt: row.attempt.unwrap_or(1),
                request: event.call.request().unwrap_or(0),
                attempt_id,
                undone_at: txn.undone_at(at),
                fate: txn.fate,
            });
        }
        grants
    }

    /// Whether a grant of the transaction was given back, before this event.
    fn released(&self, grant: &Grant, calls: &[usize], before: usize) -> bool {
        calls.iter().any(|&at| {
            let event = self.event(at);
            at > grant.event
                && at < before
                && event.txn == grant.txn
                && matches!(event.call, Call::Release { .. } | Call::Forget { .. })
                && event.outcome.is_done("t")
                && self.undone_at(at).is_none_or(|undone| undone > self.event(before).start)
        })
    }

    fn first_asked(&self, calls: &[usize], at: usize, attempt_id: Option<&String>) -> Nanos {
        let this = self.event(at).start;
        let Some(name) = attempt_id else { return this };
        calls
            .iter()
            .map(|at| self.event(*at))
            .filter(|event| matches!(&event.call, Call::Claim { attempt_id: Some(id), .. } if id == name))
            .map(|event| event.start)
            .min()
            .unwrap_or(this)
    }

    fn answers(&self, calls: &[usize], grants: &[Grant]) -> Vec<Answer> {
        let mut answers = Vec::new();
        for &at in calls {
            let event = self.event(at);
            let txn = self.txn(event.txn);
            // A statement whose answer was lost stored nothing in a transaction that was still open.
            if matches!(event.outcome, Outcome::Refused(_))
                || event.outcome == Outcome::Lost && txn.explicit
            {
                continue;
            }
            let row = event.outcome.row();
            let (number, response, failed, status, fence) = match &event.call {
                Call::Complete { answer: number, effect, failed, fence, .. } => {
                    let status = Some(answer::status(*number));
                    (*number, answer::response(*number, *effect), *failed, status, *fence)
                }
                Call::Run { effect, declined, .. }
                    if row.is_none_or(|row| row.outcome == "executed") =>
                {
                    let fence = row.and_then(|row| row.fence);
                    if *declined {
                        (*effect, answer::declined(*effect), true, None, fence)
                    } else {
                        (*effect, answer::response(*effect, Some(*effect)), false, None, fence)
                    }
                }
                Call::Resolve { answer: Some(number), .. } => {
                    (*number, answer::response(*number, None), false, None, None)
                }
                _ => continue,
            };
            let request = event.call.request().or_else(|| {
                grants
                    .iter()
                    .rfind(|grant| match fence {
                        Some(fence) => grant.fence == Some(fence),
                        None => grant.fence.is_none() && grant.txn == event.txn && grant.event < at,
                    })
                    .map(|grant| grant.request)
            });
            // Completing again what the transaction has completed is answered by that, and stores nothing.
            let is_here = |before: &Answer| {
                before.number == number
                    && before.txn == event.txn
                    && self.undone_at(before.event).is_none_or(|undone| undone > event.start)
            };
            if answers.iter().any(is_here) {
                continue;
            }
            answers.push(Answer {
                number,
                event: at,
                txn: event.txn,
                epoch: event.epoch,
                fence,
                response,
                failed,
                status,
                request: if matches!(event.call, Call::Resolve { .. }) { None } else { request },
                undone: txn.undone_at(at).is_some(),
                fate: txn.fate,
            });
        }
        answers
    }
}

/// `idempotent.clock_skew`, see `bin/history.rs`.
const CLOCK_SKEW: Nanos = 500 * MS;

impl KeyFacts<'_> {
    pub fn id(&self) -> KeyId {
        self.key.id
    }

    /// The event that has done an effect.
    pub fn done_by(&self, facts: &Facts<'_>, effect: &Effect) -> Option<usize> {
        self.calls.iter().copied().find(|at| match &facts.event(*at).call {
            Call::Effect { effect: number, .. } | Call::Run { effect: number, .. } => {
                *number == effect.effect
            }
            _ => false,
        })
    }

    /// How long what this event stores is kept, at least.
    pub fn retention(&self, facts: &Facts<'_>, event: &Event) -> Nanos {
        let (from, until) = facts.span(event);
        self.settings.retention(from, until).0
    }

    /// How long an answer is kept: that of a dated key until its date alone refuses it.
    pub fn kept_at_most(&self, facts: &Facts<'_>, event: &Event) -> Nanos {
        let (from, until) = facts.span(event);
        self.settings.retention(from, until).1 + if self.is_dated() { CLOCK_SKEW } else { 0 }
    }

    /// Whether the key's date certainly counted for this event.
    pub fn counts_date(&self, facts: &Facts<'_>, event: &Event) -> bool {
        let (from, until) = facts.span(event);
        match self.key.dating {
            Dating::None => false,
            Dating::Uuid => !self.settings.may_ignore_dates(from, until),
            Dating::FirstSent(_) => true,
        }
    }

    /// Whether the key's date may have counted for this event.
    pub fn may_count_date(&self, facts: &Facts<'_>, event: &Event) -> bool {
        let (from, until) = facts.span(event);
        match self.key.dating {
            Dating::None => false,
            Dating::Uuid => self.settings.may_use_dates(from, until),
            Dating::FirstSent(_) => true,
        }
    }

    /// Whether the key may be called too old: older than its record was kept, by what was ever the retention.
    pub fn may_be_too_old(&self, facts: &Facts<'_>, event: &Event) -> bool {
        let (Some(date), began) = (self.key.date_us(), facts.history.setup.began_us) else {
            return true;
        };
        let now = began * 1000 + event.end;
        let kept = self.settings.retention(0, event.end).0;
        // A date that counts for nothing keeps a record no longer than the retention, whichever clock has made it.
        let kept = if self.settings.may_ignore_dates(0, event.end) {
            kept.saturating_sub(CLOCK_SKEW)
        } else {
            kept + CLOCK_SKEW
        };
        began == 0 || now + MARGIN > (date * 1000).saturating_add(kept)
    }

    pub fn is_dated(&self) -> bool {
        self.key.dating != Dating::None
    }

    /// Whether what was there in one epoch may be there in another.
    pub fn may_last(&self, one: i64, other: i64) -> bool {
        self.has_nodes || self.lasts(one, other)
    }

    /// Whether what was there in one epoch is there in another.
    pub fn lasts(&self, one: i64, other: i64) -> bool {
        self.operation.logged || one == other
    }
}

/// The effects and traces in the database tell what became of transactions that nobody was told of.
fn find_out_fates(history: &History, txns: &mut BTreeMap<TxnId, Transaction>) {
    let there: HashSet<u64> = history.effects.iter().map(|effect| effect.effect).collect();
    let traces: HashSet<u64> = history.traces.iter().filter_map(Trace::number).collect();
    for txn in txns.values_mut().filter(|txn| txn.fate == Fate::Unknown) {
        for at in &txn.events {
            let event = &history.events[*at];
            let (left, certain) = match &event.call {
                Call::Effect { effect, .. } => (there.contains(effect), event.outcome.is_ok()),
                Call::Run { effect, declined, .. } => {
                    (there.contains(effect), event.outcome.said() == "executed" && !declined)
                }
                Call::Pattern(pattern) => (
                    pattern.number().is_some_and(|number| traces.contains(&number)),
                    pattern.leaves_a_trace(&event.outcome),
                ),
                _ => continue,
            };
            if txn.undone_at(*at).is_some() {
                continue;
            }
            if left {
                txn.fate = Fate::Committed { by: Nanos::MAX };
            } else if certain {
                txn.fate = Fate::Aborted;
            }
        }
    }
}
