//! One node: its tables, what it answers for, what it has lost, and what it answers a claim.

use std::collections::BTreeMap;

use rules::claim::{Request, Verdict, judge};
use rules::dating::{Age, Dates, Kept};
use rules::finish::{FenceVerdict, check_fence};
use rules::identity::RecordId;
use rules::own::Slots;
use rules::policy::{Durability, KeyDates, Policy};
use rules::record::{Record, State};
use rules::retention;
use rules::slot::SLOTS;
use rules::{Micros, Timestamp};

use crate::SECOND;
use crate::ledger::{KeyId, Ledger};
use crate::plan::SKEW;
use crate::plant::Plant;
use crate::table::{self, Stored, Table};

/// Looks so often whether transactions are still open.
const LOOK: Micros = SECOND / 20;
/// As far as fences are skipped on a standby that is promoted.
const SKIP: i64 = 1_000_000_000;

/// A transaction that holds a key.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub attempt: u64,
    pub slot: u16,
}

/// What is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub key: KeyId,
    pub id: RecordId,
    pub slot: u16,
    pub text: &'a [u8],
    pub policy: &'a Policy,
    pub date: Option<Timestamp>,
}

#[derive(Debug)]
pub struct Node {
    /// `None` while it is down.
    pub back_at: Option<Timestamp>,
    /// Another one after each crash: what was open before is gone.
    pub epoch: u32,
    /// Committed.
    has: Vec<bool>,
    own: Slots,
    /// Announced to be given up, and not yet committed. Sorted.
    leaving: Option<Vec<u16>>,
    pub unlogged: Table,
    pub logged: Table,
    /// Claims of transactions.
    pub held: BTreeMap<RecordId, Held>,
    fence: i64,
    /// Since when nothing was lost: of unlogged records, of logged ones.
    pub lost_before: [Timestamp; 2],
}

impl Node {
    pub fn new(slots: &[u16]) -> Self {
        Self {
            back_at: None,
            epoch: 0,
            has: (0..SLOTS).map(|slot| slots.contains(&slot)).collect(),
            own: slots_of(slots.iter().copied()),
            leaving: None,
            unlogged: Table::new(),
            logged: Table::new(),
            held: BTreeMap::new(),
            fence: 0,
            lost_before: [Timestamp::MIN; 2],
        }
    }

    /// Whether it may begin something for the slot.
    pub fn answers_for(&self, slot: u16) -> bool {
        let leaves = |leaving: &Vec<u16>| leaving.binary_search(&slot).is_ok();
        self.own.contains(slot) && !self.leaving.as_ref().is_some_and(leaves)
    }

    pub fn owns(&self, slot: u16) -> bool {
        self.own.contains(slot)
    }

    pub fn announce(&mut self, leaving: Vec<u16>) {
        self.leaving = Some(leaving);
    }

    /// Gives slots up, or takes them.
    pub fn own(&mut self, slots: &[u16], takes: bool) {
        for slot in slots {
            self.has[usize::from(*slot)] = takes;
        }
        self.own = slots_of((0..SLOTS).filter(|slot| self.has[usize::from(*slot)]));
        if !takes {
            self.leaving = None;
        }
    }

    /// Answers for all slots, whatever is said.
    pub fn has_no_guard(&mut self) {
        self.own(&(0..SLOTS).collect::<Vec<_>>(), true);
    }

    pub fn is_announcing(&self) -> bool {
        self.leaving.is_some()
    }

    /// When to look again whether a claim of these slots, which are sorted, is open; `None` if none is.
    pub fn open_until(&self, slots: &[u16], now: Timestamp) -> Option<Timestamp> {
        let goes = |slot: u16| slots.binary_search(&slot).is_ok();
        if self.held.values().any(|held| goes(held.slot)) {
            return Some(now + LOOK);
        }
        (self.unlogged.values().chain(self.logged.values()))
            .filter(|stored| table::is_leased(stored, now) && goes(stored.slot))
            .filter_map(|stored| stored.record.lease_until)
            .max()
    }

    pub fn table(&mut self, durability: Durability) -> &mut Table {
        match durability {
            Durability::Unlogged => &mut self.unlogged,
            Durability::Logged => &mut self.logged,
        }
    }

    fn seen(&self, asked: &Asked<'_>) -> Option<&Stored> {
        match asked.policy.durability {
            Durability::Unlogged => self.unlogged.get(&asked.id),
            Durability::Logged => self.logged.get(&asked.id),
        }
    }

    fn age(&self, asked: &Asked<'_>, now: Timestamp) -> Age {
        let lost_before =
            self.lost_before[usize::from(asked.policy.durability == Durability::Logged)];
        dates(asked).age(now, &Kept::always(asked.policy.retention, SKEW, lost_before))
    }

    /// The verdict, and the answer of a replay.
    pub fn judge(&self, asked: &Asked<'_>, now: Timestamp) -> (Verdict, u64) {
        let stored = self.seen(asked);
        let request = Request { fingerprint: None, attempt_id: None, age: self.age(asked, now) };
        (
            judge(stored.map(|stored| &stored.record), &request, now),
            stored.map_or(0, |stored| stored.answer),
        )
    }

    /// Grants a lease, and commits that.
    pub fn lease(&mut self, asked: &Asked<'_>, attempt: i32, lease: Micros, now: Timestamp) -> i64 {
        self.fence += 1;
        // Above the record's, wherever that comes from.
        if let Some(before) = self.seen(asked).and_then(|stored| stored.record.fence) {
            self.fence = self.fence.max(before + 1);
        }
        let lease_until = now + lease;
        let expires_at = retention::lease_expires(asked.policy, lease_until, dates(asked), SKEW);
        let record = Record {
            fence: Some(self.fence),
            attempt,
            lease_until: Some(lease_until),
            ..blank(State::InProgress, expires_at)
        };
        self.store(asked, record, 0, now, expires_at);
        self.fence
    }

    /// What the fence of a holder is worth.
    pub fn check_fence(&self, asked: &Asked<'_>, fence: i64, now: Timestamp) -> FenceVerdict {
        check_fence(self.seen(asked).map(|stored| &stored.record), Some(fence), now)
    }

    /// Stores the answer.
    pub fn complete(
        &mut self,
        asked: &Asked<'_>,
        fence: Option<i64>,
        answer: u64,
        now: Timestamp,
        plant: Option<Plant>,
    ) {
        let mut expires_at =
            retention::answer_expires(asked.policy, false, None, dates(asked), now, SKEW);
        if plant == Some(Plant::ForgottenTooEarly) {
            expires_at = now + asked.policy.retention / 2;
        }
        let sweep_at = retention::answer_due(asked.policy, now, expires_at);
        let record = Record { fence, ..blank(State::Completed, expires_at) };
        self.store(asked, record, answer, now, sweep_at);
    }

    fn store(
        &mut self,
        asked: &Asked<'_>,
        record: Record,
        answer: u64,
        at: Timestamp,
        sweep_at: Timestamp,
    ) {
        let stored = Stored {
            key: asked.key,
            slot: asked.slot,
            date: asked.date,
            record,
            answer,
            at,
            sweep_at,
        };
        self.table(asked.policy.durability).insert(asked.id, stored);
    }

    /// What every crash does: transactions are gone, and unlogged records.
    pub fn crash(
        &mut self,
        now: Timestamp,
        back_at: Timestamp,
        ledger: &mut Ledger,
        plant: Option<Plant>,
    ) {
        (self.back_at, self.leaving) = (Some(back_at), None);
        self.epoch += 1;
        self.held.clear();
        for stored in std::mem::take(&mut self.unlogged).into_values() {
            ledger.lost(stored.key, stored.date.is_some_and(|date| date < now));
        }
        if plant != Some(Plant::CrashUnnoticed) {
            self.lost_before[0] = now;
        }
    }

    /// A synchronous standby takes over: fences skip what it may not have heard of. One that is behind lacks what came last.
    pub fn fail_over(
        &mut self,
        now: Timestamp,
        back_at: Timestamp,
        behind: Micros,
        ledger: &mut Ledger,
        plant: Option<Plant>,
    ) {
        self.crash(now, back_at, ledger, plant);
        self.fence += SKIP;
        self.logged.retain(|_, stored| stored.at <= now - behind);
    }

    /// Everything is gone.
    pub fn lose(&mut self, now: Timestamp, ledger: &mut Ledger, plant: Option<Plant>) {
        self.crash(now, Timestamp::MAX, ledger, plant);
        for stored in std::mem::take(&mut self.logged).into_values() {
            ledger.lost(stored.key, stored.date.is_some_and(|date| date < now));
        }
    }

    pub fn stay_above(&mut self, fence: i64) {
        self.fence = self.fence.max(fence);
    }

    pub fn fence(&self) -> i64 {
        self.fence
    }
}

fn dates(asked: &Asked<'_>) -> Dates {
    Dates::of(None, asked.text, KeyDates::Use)
}

fn blank(state: State, expires_at: Timestamp) -> Record {
    Record {
        state,
        fingerprint: None,
        fence: None,
        attempt: 1,
        attempt_id: None,
        lease_until: None,
        expires_at,
        mine: false,
    }
}

/// As Postgres prints a multirange of them, and the extension reads it.
fn slots_of(slots: impl Iterator<Item = u16>) -> Slots {
    let mut all: Vec<u16> = slots.collect();
    all.sort_unstable();
    all.dedup();
    let ranges: Vec<String> = all
        .chunk_by(|one, next| one + 1 == *next)
        .map(|range| format!("[{},{})", range[0], range[range.len() - 1] + 1))
        .collect();
    Slots::parse(&format!("{{{}}}", ranges.join(","))).expect("it is written as Postgres prints it")
}
