//! The model at work: clients, routers, nodes and moves, one event after the other.

mod misfortune;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use fastrand::Rng;
use rules::claim::Verdict;
use rules::dating::key_date;
use rules::finish::FenceVerdict;
use rules::policy::Durability;
use rules::slot::{SLOTS, shard};
use rules::{Micros, Timestamp};

use crate::HOUR;
use crate::client::{self, Key};
use crate::figures::Figures;
use crate::ledger::{KeyId, Ledger, Promise};
use crate::moves::Move;
use crate::node::{Asked, Held, Node};
use crate::plan::{BEGIN, Operation, Plan, operations};
use crate::plant::Plant;
use crate::table;

/// Each has a table of its own, as old as it is.
const ROUTERS: usize = 16;
/// Between two looks at what has expired.
const SWEEP: Micros = HOUR / 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A key is called for the first time.
    New,
    /// A client calls, for the tries-th time.
    Send {
        key: KeyId,
        tries: u32,
        since: Timestamp,
    },
    Arrive {
        key: KeyId,
        tries: u32,
        since: Timestamp,
        router: usize,
        node: usize,
    },
    /// The transaction that holds a key commits, with its answer.
    Commit {
        key: KeyId,
        tries: u32,
        since: Timestamp,
        node: usize,
        epoch: u32,
        attempt: u64,
    },
    /// Work under a lease is done.
    Finish {
        key: KeyId,
        tries: u32,
        since: Timestamp,
        fence: i64,
        attempt: u64,
    },
    Crash {
        node: usize,
    },
    FailOver,
    /// A node is gone for good.
    Lose,
    Back {
        node: usize,
    },
    Grow,
    Rebalance,
    Moving {
        id: u64,
    },
    Sweep,
}

pub struct World {
    pub plan: Plan,
    pub ledger: Ledger,
    pub figures: Figures,
    plant: Option<Plant>,
    operations: Vec<Operation>,
    rng: Rng,
    now: Timestamp,
    events: BinaryHeap<Reverse<(Timestamp, u64, Event)>>,
    scheduled: u64,
    keys: Vec<Key>,
    nodes: Vec<Node>,
    /// Who has each slot.
    owner: Vec<usize>,
    routers: Vec<Vec<usize>>,
    /// Those that are under way.
    moves: BTreeMap<u64, Move>,
    /// The last ones: slots go back, too.
    gone: Vec<(usize, usize, Vec<u16>)>,
    attempts: u64,
}

impl World {
    pub fn new(plan: Plan, plant: Option<Plant>) -> Self {
        let shards = u32::try_from(plan.nodes).unwrap_or(u32::MAX);
        let owner: Vec<usize> =
            (0..SLOTS).map(|slot| usize::try_from(shard(slot, shards)).unwrap_or(0)).collect();
        let nodes = (0..plan.nodes)
            .map(|node| {
                let slots: Vec<u16> =
                    (0..SLOTS).filter(|slot| owner[usize::from(*slot)] == node).collect();
                let mut made = Node::new(&slots);
                if plant == Some(Plant::NoGuard) {
                    made.has_no_guard();
                }
                made
            })
            .collect();
        Self {
            rng: Rng::with_seed(plan.seed),
            ledger: Ledger::default(),
            figures: Figures::default(),
            plant,
            operations: operations(),
            now: BEGIN,
            events: BinaryHeap::new(),
            scheduled: 0,
            keys: Vec::new(),
            routers: vec![owner.clone(); ROUTERS],
            nodes,
            owner,
            moves: BTreeMap::new(),
            gone: Vec::new(),
            attempts: 0,
            plan,
        }
    }

    /// All of it.
    pub fn run(&mut self) {
        self.at(BEGIN, Event::New);
        self.at(BEGIN + SWEEP, Event::Sweep);
        for node in 0..self.nodes.len() {
            let first = self.rng.i64(0..self.plan.crash_every);
            self.at(BEGIN + first, Event::Crash { node });
        }
        self.at(BEGIN + self.plan.failover_every, Event::FailOver);
        self.at(BEGIN + self.plan.move_every, Event::Rebalance);
        let length = self.plan.hours * HOUR;
        self.at(BEGIN + length / 4, Event::Grow);
        self.at(BEGIN + length / 2, Event::Lose);
        while let Some(Reverse((time, _, event))) = self.events.pop() {
            self.now = time;
            self.happens(event);
        }
        self.figures.note_end(&self.plan, &self.ledger, self.nodes.len());
    }

    fn at(&mut self, time: Timestamp, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse((time, self.scheduled, event)));
    }

    fn after(&mut self, time: Micros, event: Event) {
        self.at(self.now + time, event);
    }

    /// Befalls the nodes until the last new key, and no longer.
    fn again(&mut self, time: Micros, event: Event) {
        if self.now + time < self.plan.end() {
            self.after(time, event);
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::New => self.new_key(),
            Event::Send { key, tries, since } => self.send(key, tries, since),
            Event::Arrive { key, tries, since, router, node } => {
                self.arrive(key, tries, since, router, node)
            }
            Event::Commit { key, tries, since, node, epoch, attempt } => {
                self.commit(key, tries, since, node, epoch, attempt);
            }
            Event::Finish { key, tries, since, fence, attempt } => {
                self.finish(key, tries, since, fence, attempt)
            }
            Event::Crash { node } => self.crash(node),
            Event::FailOver => self.fail_over(),
            Event::Lose => self.lose(),
            Event::Back { node } => self.nodes[node].back_at = None,
            Event::Grow => self.grow(),
            Event::Rebalance => self.rebalance(),
            Event::Moving { id } => self.moving(id),
            Event::Sweep => self.sweep(),
        }
    }

    fn new_key(&mut self) {
        let key = self.ledger.begin();
        self.keys.push(Key::draw(&self.operations, self.now, &mut self.rng));
        for after in client::deliveries(&mut self.rng) {
            self.after(after, Event::Send { key, tries: 0, since: self.now + after });
        }
        self.again(self.plan.pause(), Event::New);
    }

    fn send(&mut self, key: KeyId, tries: u32, since: Timestamp) {
        if self.now - since > client::PATIENCE {
            self.figures.given_up += 1;
            return;
        }
        self.figures.sent += 1;
        let router = self.rng.usize(..ROUTERS);
        let node = self.routers[router][usize::from(self.keys[key].slot)];
        let way = client::way(&mut self.rng);
        self.after(way, Event::Arrive { key, tries, since, router, node });
    }

    fn retry(&mut self, key: KeyId, tries: u32, since: Timestamp) {
        let pause = client::pause(tries, &mut self.rng);
        self.after(pause, Event::Send { key, tries: tries + 1, since });
    }

    fn arrive(&mut self, key: KeyId, tries: u32, since: Timestamp, router: usize, node: usize) {
        if self.nodes[node].back_at.is_some() {
            self.figures.unreachable += 1;
            // A router asks anew when a node does not answer.
            self.routers[router].clone_from(&self.owner);
            return self.retry(key, tries, since);
        }
        let known = &self.keys[key];
        let asked = ask(&self.operations, known, key);
        if !self.nodes[node].answers_for(known.slot) {
            self.figures.refused += 1;
            self.routers[router].clone_from(&self.owner);
            return self.retry(key, tries, since);
        }
        if self.nodes[node].held.contains_key(&known.id) {
            return self.retry(key, tries, since);
        }
        let (verdict, answer) = self.nodes[node].judge(&asked, self.now);
        match verdict {
            Verdict::Claim { attempt, .. } => self.work(key, tries, since, node, attempt),
            Verdict::Replay { .. } => {
                self.figures.replays += 1;
                self.answer(key, tries, since, answer);
            }
            Verdict::Expired => self.figures.expired += 1,
            Verdict::Unknown => self.figures.unknown += 1,
            _ => self.retry(key, tries, since),
        }
    }

    fn answer(&mut self, key: KeyId, tries: u32, since: Timestamp, answer: u64) {
        if client::is_lost(&mut self.rng) {
            return self.retry(key, tries, since);
        }
        self.ledger.answered(key, answer);
        let late = self.now - since;
        self.figures.note_answer(late);
    }

    fn work(&mut self, key: KeyId, tries: u32, since: Timestamp, node: usize, attempt_number: i32) {
        self.attempts += 1;
        self.figures.claims += 1;
        let attempt = self.attempts;
        let known = &self.keys[key];
        let asked = ask(&self.operations, known, key);
        if let Some(lease) = asked.policy.lease {
            let fence = self.nodes[node].lease(&asked, attempt_number, lease, self.now);
            self.ledger.granted(key, fence);
            self.ledger.begins(key, attempt, self.now, self.now + lease);
            if let Some(later) = client::death(asked.policy, &mut self.rng) {
                return self.after(later, Event::Send { key, tries: 0, since: self.now + later });
            }
            let work = client::work(asked.policy, &mut self.rng);
            return self.after(work, Event::Finish { key, tries, since, fence, attempt });
        }
        let time = client::transaction(&mut self.rng);
        self.nodes[node].held.insert(known.id, Held { attempt, slot: known.slot });
        self.ledger.begins(key, attempt, self.now, self.now + time);
        let epoch = self.nodes[node].epoch;
        self.after(time, Event::Commit { key, tries, since, node, epoch, attempt });
    }

    fn commit(
        &mut self,
        key: KeyId,
        tries: u32,
        since: Timestamp,
        node: usize,
        epoch: u32,
        attempt: u64,
    ) {
        self.ledger.ends(key, attempt);
        let known = &self.keys[key];
        if self.nodes[node].epoch != epoch {
            return self.retry(key, tries, since);
        }
        self.nodes[node].held.remove(&known.id);
        // Some handlers fail, and everything is rolled back.
        if self.rng.u32(..200) == 0 {
            return self.retry(key, tries, since);
        }
        self.store(key, node, None, attempt);
        self.answer(key, tries, since, attempt);
    }

    fn finish(&mut self, key: KeyId, tries: u32, since: Timestamp, fence: i64, attempt: u64) {
        let router = self.rng.usize(..ROUTERS);
        let node = self.routers[router][usize::from(self.keys[key].slot)];
        self.ledger.ends(key, attempt);
        if self.nodes[node].back_at.is_some() {
            self.routers[router].clone_from(&self.owner);
            return self.retry(key, tries, since);
        }
        let asked = ask(&self.operations, &self.keys[key], key);
        match self.nodes[node].check_fence(&asked, fence, self.now) {
            FenceVerdict::Valid => {
                self.store(key, node, Some(fence), attempt);
                self.answer(key, tries, since, attempt);
            }
            _ => {
                self.figures.fences_refused += 1;
                self.routers[router].clone_from(&self.owner);
                self.retry(key, tries, since);
            }
        }
    }

    /// Work and answer are committed together.
    fn store(&mut self, key: KeyId, node: usize, fence: Option<i64>, answer: u64) {
        let asked = ask(&self.operations, &self.keys[key], key);
        let promise = Promise { dated: asked.date.is_some(), retention: asked.policy.retention };
        self.nodes[node].complete(&asked, fence, answer, self.now, self.plant);
        self.ledger.committed(key, answer, self.now, promise);
        self.figures.completed += 1;
    }

    fn sweep(&mut self) {
        for node in &mut self.nodes {
            for durability in Durability::ALL {
                self.figures.swept += table::sweep(node.table(durability), self.now) as u64;
            }
            let records = node.logged.len() + node.unlogged.len();
            self.figures.note_size(records as u64);
        }
        self.again(SWEEP, Event::Sweep);
    }
}

fn ask<'a>(operations: &'a [Operation], key: &'a Key, number: KeyId) -> Asked<'a> {
    let operation = &operations[key.operation];
    Asked {
        key: number,
        id: key.id,
        slot: key.slot,
        date: key_date(key.text.as_bytes()),
        text: key.text.as_bytes(),
        policy: &operation.policy,
    }
}
