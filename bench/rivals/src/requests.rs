//! The requests of one client, each with its key, and its answer checked.

use crate::caller::{Caller, FINISHED_ANSWER, Result};
use crate::scenario::Scenario;

/// Calls of each client before the clock runs: a new connection has to fill its caches.
const WARM_UP: u64 = 20;

pub struct Requests {
    pub scenario: Scenario,
    /// Finished keys to choose from, 1 to this.
    finished: u64,
    caller: Box<dyn Caller>,
    pub made: u64,
    /// The last key and its answer.
    last: Option<(String, String)>,
}

impl Requests {
    pub fn new(scenario: Scenario, operation: &str, finished: u64) -> Result<Self> {
        let caller = scenario.caller(operation)?;
        Ok(Self { scenario, finished, caller, made: 0, last: None })
    }

    pub fn warm_up(&mut self) -> Result<()> {
        (0..WARM_UP).try_for_each(|_| self.one())
    }

    pub fn one(&mut self) -> Result<()> {
        let number = if self.scenario.pays() {
            // Far from the finished ones, and from those of any sample before.
            fastrand::u64(1 << 60..1 << 63)
        } else {
            fastrand::u64(1..=self.finished)
        };
        let key = number.to_string();
        let answer = self.caller.call(&key)?;
        if !self.scenario.pays() && answer != FINISHED_ANSWER {
            return Err(format!("the finished key {key} was answered with {answer}").into());
        }
        self.made += 1;
        self.last = Some((key, answer));
        Ok(())
    }

    pub fn clock(&mut self) -> Result<Option<f64>> {
        self.caller.clock()
    }

    /// Whether the last answer was stored.
    pub fn look_again(&mut self) -> Result<()> {
        let (key, answer) = self.last.take().ok_or("no call was made")?;
        match self.caller.kept(&key)? {
            Some(kept) if kept != answer => {
                Err(format!("key {key} was answered with {answer}, and keeps {kept}").into())
            }
            _ => Ok(()),
        }
    }
}
