//! One task for each pool extends all leases of the process, on a connection of its own: a pool whose connections are all taken must cost no lease.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::held::{Held, Identity};
use crate::core::{
    database::{Connection, Database, interval, text},
    error::Error,
    sql::EXTEND_ALL,
};

const BEATS: u32 = 3; // in the length of a lease
const AFTER_ERROR: u32 = 10; // parts of its length, until it is tried again
const IDLE: Duration = Duration::from_secs(10); // without a lease: then the task ends, and its connection

/// A lease that is being extended. Its times are from before the server was asked: the lease lasts longer.
#[derive(Clone, Debug)]
struct Beat {
    identity: Identity,
    fence: i64,
    lease: Duration,
    due: Instant,
    lapses: Instant,
    lost: CancellationToken,
}

#[derive(Default)]
struct Heart {
    beats: Mutex<HashMap<u64, Beat>>,
    changed: Notify,
}

static HEARTS: LazyLock<Mutex<HashMap<usize, Arc<Heart>>>> = LazyLock::new(Mutex::default);

/// What is in these maps is whole between any two statements.
fn open<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Extends a lease until this is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Beating {
    heart: Arc<Heart>,
    number: u64,
}

impl std::fmt::Debug for Heart {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("Heart")
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        open(&self.heart.beats).remove(&self.number);
        self.heart.changed.notify_one();
    }
}

/// `since`: when the claim was sent.
pub(crate) fn keep_alive<D: Database>(
    pool: &D,
    held: &Held,
    lease: Duration,
    since: Instant,
) -> Beating {
    let number = fastrand::u64(..);
    let beat = Beat {
        identity: held.identity().clone(),
        fence: held.fence(),
        lease,
        due: since + lease / BEATS,
        lapses: since + lease,
        lost: held.lost().clone(),
    };
    let (heart, is_new) = {
        let mut hearts = open(&HEARTS);
        let found = hearts.get(&pool.id()).cloned();
        let is_new = found.is_none();
        let heart = found.unwrap_or_default();
        // Before its task can look whether there is a lease.
        open(&heart.beats).insert(number, beat);
        hearts.insert(pool.id(), Arc::clone(&heart));
        (heart, is_new)
    };
    if is_new {
        // Without the lock: a runtime that is shutting down drops the task at once, which takes it.
        tokio::spawn(Alive { pool: pool.clone(), heart: Arc::clone(&heart) }.run());
    }
    heart.changed.notify_one();
    Beating { heart, number }
}

/// The task's own. It keeps the pool, and with that its id, and leaves nothing behind when its runtime ends before it.
struct Alive<D: Database> {
    pool: D,
    heart: Arc<Heart>,
}

impl<D: Database> Drop for Alive<D> {
    fn drop(&mut self) {
        let mut hearts = open(&HEARTS);
        if hearts.get(&self.pool.id()).is_some_and(|found| Arc::ptr_eq(found, &self.heart)) {
            hearts.remove(&self.pool.id());
        }
    }
}

impl<D: Database> Alive<D> {
    async fn run(self) {
        let mut connection: Option<D::Own> = None;
        while self.next().await {
            let now = Instant::now();
            self.lapse(now);
            for group in groups(self.due(now)) {
                let asked = Instant::now();
                match self.extend(&mut connection, &group).await {
                    Ok(lost) => self.extended(&group, &lost, asked),
                    Err(_) => {
                        connection = None;
                        self.postpone(&group);
                    }
                }
            }
        }
    }

    /// Waits until a lease is due or has lapsed; false when there have been none for long.
    async fn next(&self) -> bool {
        loop {
            let changed = self.heart.changed.notified();
            let next = open(&self.heart.beats).values().map(|beat| beat.due.min(beat.lapses)).min();
            match next {
                Some(at) if at <= Instant::now() => return true,
                Some(at) => {
                    tokio::select! { () = sleep_until(at) => return true, () = changed => {} }
                }
                None => {
                    if timeout(IDLE, changed).await.is_err() && self.is_forgotten() {
                        return false;
                    }
                }
            }
        }
    }

    /// Whether there is still no lease. Then the next one starts a task of its own.
    fn is_forgotten(&self) -> bool {
        let mut hearts = open(&HEARTS);
        let is_idle = open(&self.heart.beats).is_empty();
        if is_idle {
            hearts.remove(&self.pool.id());
        }
        is_idle
    }

    /// Lapsed by our own clock: whatever the server would say, another holder may have the key.
    fn lapse(&self, now: Instant) {
        open(&self.heart.beats).retain(|_, beat| {
            let lives = beat.lapses > now;
            if !lives {
                beat.lost.cancel();
            }
            lives
        });
    }

    /// Those that are nearly due come along, so that many leases settle into one statement.
    fn due(&self, now: Instant) -> Vec<(u64, Beat)> {
        let beats = open(&self.heart.beats);
        beats
            .iter()
            .filter(|(_, beat)| beat.due <= now + beat.lease / AFTER_ERROR)
            .map(|(number, beat)| (*number, beat.clone()))
            .collect()
    }

    /// The keys that are lost. A network that swallows everything must not hold up the other leases: the question ends before the next of them lapses.
    async fn extend(
        &self,
        connection: &mut Option<D::Own>,
        group: &[(u64, Beat)],
    ) -> Result<Vec<String>, Error> {
        let Some((_, first)) = group.first() else { return Ok(Vec::new()) };
        let keys: Vec<&str> = group.iter().map(|(_, beat)| beat.identity.key.as_str()).collect();
        let fences: Vec<String> = group.iter().map(|(_, beat)| beat.fence.to_string()).collect();
        let parameters = [
            first.identity.operation.as_str().into(),
            serde_json::to_string(&keys)?.into(),
            serde_json::to_string(&fences)?.into(),
            interval(first.lease).into(),
            first.identity.scope.as_str().into(),
        ];
        let asked = async {
            let connection = match connection {
                Some(found) => found,
                None => connection.insert(self.pool.connect().await?),
            };
            connection.rows(EXTEND_ALL, &parameters).await
        };
        let lapses = open(&self.heart.beats)
            .values()
            .map(|beat| beat.lapses)
            .min()
            .unwrap_or_else(Instant::now);
        let patience = (first.lease / BEATS).min(lapses.saturating_duration_since(Instant::now()));
        let rows = timeout(patience, asked).await.map_err(|_| Error::LeaseLost)??;
        Ok(rows.iter().filter_map(|row| text(row, 0)).map(str::to_owned).collect())
    }

    fn extended(&self, group: &[(u64, Beat)], lost: &[String], asked: Instant) {
        let mut beats = open(&self.heart.beats);
        for (number, beat) in group {
            if lost.contains(&beat.identity.key) {
                if beats.remove(number).is_some() {
                    beat.lost.cancel();
                }
            } else if let Some(found) = beats.get_mut(number) {
                found.due = asked + beat.lease / BEATS;
                found.lapses = asked + beat.lease;
            }
        }
    }

    /// The connection is made anew; a lease that lapses before that is lost.
    fn postpone(&self, group: &[(u64, Beat)]) {
        let mut beats = open(&self.heart.beats);
        for (number, beat) in group {
            if let Some(found) = beats.get_mut(number) {
                found.due = Instant::now() + beat.lease / AFTER_ERROR;
            }
        }
    }
}

/// Leases that one statement can extend. A key that is there twice, with the fence of a holder that was taken over, goes alone: what is lost is told by key.
fn groups(due: Vec<(u64, Beat)>) -> Vec<Vec<(u64, Beat)>> {
    let mut found: Vec<Vec<(u64, Beat)>> = Vec::new();
    for (number, beat) in due {
        let fits = |group: &&mut Vec<(u64, Beat)>| {
            group.iter().all(|(_, other)| {
                other.identity.operation == beat.identity.operation
                    && other.identity.scope == beat.identity.scope
                    && other.lease == beat.lease
                    && other.identity.key != beat.identity.key
            })
        };
        match found.iter_mut().find(fits) {
            Some(group) => group.push((number, beat)),
            None => found.push(vec![(number, beat)]),
        }
    }
    found
}

#[cfg(all(test, feature = "tokio-postgres"))]
#[allow(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use serde_json::Value;
    use tokio::{runtime::Runtime, time::Instant};

    use super::{HEARTS, keep_alive, open};
    use crate::{
        core::{database::Database, retry::Limits},
        lease::held::{Held, Identity},
    };

    #[test]
    fn a_runtime_that_has_shut_down_drops_the_task_at_once() {
        let (told, over) = mpsc::channel();
        thread::spawn(move || {
            let runtime = Runtime::new().expect("a runtime");
            let handle = runtime.handle().clone();
            let config = deadpool_postgres::Config {
                dbname: Some("none".to_owned()),
                ..deadpool_postgres::Config::new()
            };
            let pool = config
                .create_pool(Some(deadpool_postgres::Runtime::Tokio1), tokio_postgres::NoTls)
                .expect("a pool");
            let [operation, key, scope] = ["card", "k", ""].map(str::to_owned);
            let identity = Identity { operation, key, scope };
            let held = Held::new(&pool, Limits::default(), identity, 1, 1, Value::Null);
            drop(runtime);
            let _entered = handle.enter();
            drop(keep_alive(&pool, &held, Duration::from_secs(30), Instant::now()));
            told.send(open(&HEARTS).contains_key(&pool.id())).expect("a test that waits");
        });
        assert_eq!(over.recv_timeout(Duration::from_secs(60)), Ok(false));
    }
}
