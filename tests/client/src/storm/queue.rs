//! The deliveries still to be made, shared by all connections.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::plan::Delivery;

pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    waiting: VecDeque<Delivery>,
    /// Deliveries that have not got their answer yet, waiting or under way.
    open: usize,
    all: usize,
    stopped: bool,
}

impl Queue {
    pub fn new(waiting: VecDeque<Delivery>) -> Self {
        let open = waiting.len();
        Self {
            state: Mutex::new(State { waiting, open, all: open, stopped: false }),
            changed: Condvar::new(),
        }
    }

    /// The next delivery; None when all have their answer, or the storm was stopped.
    pub fn take(&self) -> Option<Delivery> {
        let mut state = self.state();
        loop {
            if state.stopped || state.open == 0 {
                return None;
            }
            if let Some(delivery) = state.waiting.pop_front() {
                return Some(delivery);
            }
            // Those under way may come back.
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// This one has its answer. Says the percentage reached, when it is a new full ten.
    pub fn settled(&self) -> Option<usize> {
        let mut state = self.state();
        let tenth = |open: usize, all: usize| (all - open) * 10 / all;
        let before = tenth(state.open, state.all);
        state.open -= 1;
        let after = tenth(state.open, state.all);
        if state.open == 0 {
            self.changed.notify_all();
        }
        (after > before).then_some(after * 10)
    }

    /// Lost its backend: deliver it again, next. The hardest moment, the old backend may still be dying.
    pub fn next(&self, delivery: Delivery) {
        self.state().waiting.push_front(delivery);
        self.changed.notify_one();
    }

    /// Told to ask later: to the end of the queue.
    pub fn later(&self, delivery: Delivery) {
        self.state().waiting.push_back(delivery);
        self.changed.notify_one();
    }

    /// Something went wrong: nobody goes on.
    pub fn stop(&self) {
        self.state().stopped = true;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
