//! Does the harm, at random moments, from a seed, and writes down what it did.

use std::thread;
use std::time::{Duration, Instant};

use client::Cluster;
use client::connect::Server;
use fastrand::Rng;
use postgres::Client;
use rustix::process::{Pid, Signal, kill_process};

use super::proxy::{Cut, Proxy};
use crate::Result;
use crate::history::{Fault, FaultKind, Line};
use crate::play::stage::Stage;

/// Between two faults.
const PAUSE_MS: std::ops::Range<u64> = 5..120;
/// Crashes are further apart, so that something happens in between.
const PEACE: Duration = Duration::from_millis(1_500);

/// A node.
pub struct Victim<'a> {
    pub cluster: &'a Cluster,
    pub proxy: &'a Proxy,
    /// The database of the round, reached directly.
    pub server: &'a Server,
    /// Looks into it.
    pub eyes: Option<Client>,
}

pub struct Injector<'a> {
    pub victims: Vec<Victim<'a>>,
    pub stage: &'a Stage,
}

impl Injector<'_> {
    /// Until the stage is over.
    pub fn run(mut self, seed: u64) -> Result<()> {
        let mut rng = Rng::with_seed(seed);
        let mut crashed = Instant::now();
        while !self.stage.is_over() {
            thread::sleep(Duration::from_millis(rng.u64(PAUSE_MS)));
            let kind = match rng.u32(..100) {
                0..55 => FaultKind::Cut,
                55..88 => FaultKind::Terminate,
                _ if crashed.elapsed() < PEACE => continue,
                88..97 => FaultKind::Kill,
                _ => FaultKind::Immediate,
            };
            let choice = rng.usize(..self.victims.len());
            let victim = &mut self.victims[choice];
            let start = self.stage.now();
            let done = match kind {
                FaultKind::Cut => victim.cut(&mut rng),
                FaultKind::Terminate => victim.terminate(&mut rng).is_some(),
                // Of several nodes it must be known when one was down.
                FaultKind::Kill if self.stage.has_nodes() => {
                    crash(self.stage, || victim.cluster.kill_a_backend())?;
                    true
                }
                FaultKind::Kill => victim.kill(&mut rng).is_some(),
                FaultKind::Immediate => {
                    crash(self.stage, || {
                        victim.cluster.crash()?;
                        victim.cluster.resume()
                    })?;
                    true
                }
            };
            if done {
                let end = self.stage.now();
                self.stage.record(&Line::Fault(Fault { start, end, kind }));
            }
            if done && matches!(kind, FaultKind::Kill | FaultKind::Immediate) {
                crashed = Instant::now();
            }
        }
        Ok(())
    }
}

/// Until the node is back.
fn crash(stage: &Stage, harm: impl FnOnce() -> Result<()>) -> Result<()> {
    stage.note_crash();
    harm()?;
    stage.note_crash();
    Ok(())
}

impl Victim<'_> {
    fn cut(&self, rng: &mut Rng) -> bool {
        let how = match rng.u32(..7) {
            0 => Cut::Now,
            1 => Cut::Request(rng.usize(..200)),
            2 => Cut::Answer(rng.usize(..60)),
            3 => Cut::Answer(0),
            _ => Cut::AnswerToCommit,
        };
        self.proxy.cut(rng.usize(..), how)
    }

    fn terminate(&mut self, rng: &mut Rng) -> Option<()> {
        let pid = self.victim(rng)?;
        let row = self.eyes.as_mut()?.query_one("SELECT pg_terminate_backend($1)", &[&pid]).ok()?;
        row.get::<_, bool>(0).then_some(())
    }

    fn kill(&mut self, rng: &mut Rng) -> Option<()> {
        let pid = Pid::from_raw(self.victim(rng)?)?;
        kill_process(pid, Signal::KILL).ok()
    }

    /// The process of one of the clients, or of the extension's own; `None` while the server is down.
    fn victim(&mut self, rng: &mut Rng) -> Option<i32> {
        const CLIENTS: &str = "SELECT pid FROM pg_stat_activity
                                WHERE datname = current_database() AND application_name LIKE 'history %'
                                   OR backend_type LIKE 'pg_idempotent %' ORDER BY pid";
        // The connection may be one from before a crash.
        if self.eyes.as_mut().is_none_or(|eyes| eyes.simple_query("").is_err()) {
            self.eyes = self.server.client().ok();
        }
        let rows = self.eyes.as_mut()?.query(CLIENTS, &[]).ok()?;
        let pids: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
        pids.get(rng.usize(..) % pids.len().max(1)).copied()
    }
}
