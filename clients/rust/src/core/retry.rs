//! Trying again: after a conflict or a lost connection, and while another attempt holds the key.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::error::Error;

/// How long a call goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) wait: Duration,
    pub(crate) tries: u32,
    pub(crate) deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { wait: Duration::from_secs(2), tries: 5, deadline: Duration::from_secs(30) }
    }
}

const JITTER_BASE: Duration = Duration::from_millis(100);
const JITTER_MOST: Duration = Duration::from_secs(2);
const PAUSE_BASE: Duration = Duration::from_millis(20);
const PAUSE_MOST: Duration = Duration::from_millis(250);

/// What a try has come to.
pub(crate) enum Tried<T> {
    Done(T),
    /// Another attempt holds the key; what to make of that once the wait is over.
    Busy(Result<T, Error>),
}

/// The tries and the time of one call.
pub(crate) struct Budget {
    limits: Limits,
    began: Instant,
    /// How many tries have failed.
    pub(crate) before: u32,
    busy_since: Option<Instant>,
    pause: Duration,
}

impl Budget {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, began: Instant::now(), before: 0, busy_since: None, pause: PAUSE_BASE }
    }

    /// The result, if this was the last try. Else sleeps until the next one.
    pub(crate) async fn settle<T>(
        &mut self,
        tried: Result<Tried<T>, Error>,
    ) -> Option<Result<T, Error>> {
        match tried {
            Ok(Tried::Done(found)) => Some(Ok(found)),
            Ok(Tried::Busy(given_up)) => (!self.ask_again().await).then_some(given_up),
            Err(error) => self.run_again(error).await.err().map(Err),
        }
    }

    /// Sleeps 20, 40 .. 250 ms; false once the wait is over.
    async fn ask_again(&mut self) -> bool {
        let since = *self.busy_since.get_or_insert_with(Instant::now);
        let left = self.limits.wait.saturating_sub(since.elapsed());
        if left.is_zero() {
            return false;
        }
        sleep(self.pause.min(left)).await;
        self.pause = (self.pause * 2).min(PAUSE_MOST);
        true
    }

    /// Sleeps with full jitter, so that those who met once do not meet again; the error if there is no further try.
    async fn run_again(&mut self, error: Error) -> Result<(), Error> {
        if !error.is_passing() {
            return Err(error);
        }
        let most = JITTER_MOST.min(JITTER_BASE * 2_u32.saturating_pow(self.before.min(10)));
        let delay = most.mul_f64(fastrand::f64());
        self.before += 1;
        if self.before >= self.limits.tries || self.began.elapsed() + delay > self.limits.deadline {
            return Err(Error::Unavailable(error.into()));
        }
        sleep(delay).await;
        Ok(())
    }
}
