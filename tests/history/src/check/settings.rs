//! What the settings of an operation were, as far as that is certain: a change counts at some moment between its beginning
//! and the acknowledgement of its COMMIT.

use std::collections::BTreeMap;

use super::transactions::{Fate, Transaction};
use super::{AFTERWARDS, MS};
use crate::history::{Call, History, Nanos, Operation, Outcome, TxnId};
use crate::settings::Change;

/// A change, or what the operation began with.
#[derive(Clone, Debug)]
struct Changed {
    change: Change,
    /// It may count from here on.
    from: Nanos,
    /// It certainly counts from here on; `Nanos::MAX`: perhaps never.
    by: Nanos,
    /// It does not begin to count after this.
    over: Nanos,
}

/// Of one operation.
#[derive(Clone, Debug)]
pub struct Settings {
    changes: Vec<Changed>,
}

impl Settings {
    pub fn of(
        operation: &Operation,
        number: usize,
        history: &History,
        txns: &BTreeMap<TxnId, Transaction>,
    ) -> Self {
        let first = |change| Changed { change, from: 0, by: 0, over: 0 };
        let mut changes = vec![
            first(Change::Retention { ms: operation.retention_ms }),
            first(Change::OnLapse { unknown: operation.unknown_on_lapse }),
            first(Change::KeyDates { used: true }),
        ];
        for (at, event) in history.events.iter().enumerate() {
            let Call::Configure { operation, change } = event.call else { continue };
            let txn = &txns[&event.txn];
            if operation != number
                || matches!(event.outcome, Outcome::Refused(_))
                || txn.undone_at(at).is_some()
                || txn.fate == Fate::Aborted
            {
                continue;
            }
            let by = txn.fate.known_by();
            let end = txn.events.last().map_or(event.end, |last| history.events[*last].end);
            let over = if by == Nanos::MAX { end.saturating_add(AFTERWARDS) } else { by };
            changes.push(Changed { change, from: event.start, by, over });
        }
        Self { changes }
    }

    /// What may have counted at some moment between the two.
    fn between<T>(
        &self,
        from: Nanos,
        until: Nanos,
        of: impl Fn(Change) -> Option<T>,
    ) -> impl Iterator<Item = T> {
        let replaced = |one: &Changed| {
            self.changes.iter().any(|other| {
                !std::ptr::eq(other, one)
                    && other.from >= one.over
                    && other.by < from
                    && of(other.change).is_some()
            })
        };
        (self.changes.iter())
            .filter(|one| one.from <= until && !replaced(one))
            .filter_map(|one| of(one.change))
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// The shortest and the longest retention.
    pub fn retention(&self, from: Nanos, until: Nanos) -> (Nanos, Nanos) {
        let of = |change| match change {
            Change::Retention { ms } => Some(ms * MS),
            _ => None,
        };
        let shortest = self.between(from, until, of).min().unwrap_or(0);
        (shortest, self.between(from, until, of).max().unwrap_or(Nanos::MAX / 2))
    }

    fn on_lapse(change: Change) -> Option<bool> {
        match change {
            Change::OnLapse { unknown } => Some(unknown),
            _ => None,
        }
    }

    /// Whether a lapse may lead to `unknown`, of a lease that was granted by then.
    pub fn may_be_unknown(&self, until: Nanos) -> bool {
        self.between(0, until, Self::on_lapse).any(|unknown| unknown)
    }

    /// Whether every lapse by then leads to `unknown`.
    pub fn is_always_unknown(&self, until: Nanos) -> bool {
        self.between(0, until, Self::on_lapse).all(|unknown| unknown)
    }

    /// Whether a lapse certainly leads to `unknown`, of a lease that was granted between the first two moments and committed by the
    /// third, and is taken over by a call that began at the fourth: it was granted so, or there was a change afterwards.
    pub fn is_unknown(&self, asked: Nanos, told: Nanos, committed: Nanos, taken: Nanos) -> bool {
        self.between(asked, told, Self::on_lapse).all(|unknown| unknown)
            || self.changes.iter().any(|one| {
                one.change == Change::OnLapse { unknown: true }
                    && one.from > committed
                    && one.by < taken
            })
    }

    /// Whether the dates of keys that bear them may have counted for nothing.
    pub fn may_ignore_dates(&self, from: Nanos, until: Nanos) -> bool {
        self.key_dates(from, until).any(|used| !used)
    }

    /// Whether they may have counted.
    pub fn may_use_dates(&self, from: Nanos, until: Nanos) -> bool {
        self.key_dates(from, until).any(|used| used)
    }

    fn key_dates(&self, from: Nanos, until: Nanos) -> impl Iterator<Item = bool> {
        self.between(from, until, |change| match change {
            Change::KeyDates { used } => Some(used),
            _ => None,
        })
    }
}
