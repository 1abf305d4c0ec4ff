//! Random cases for as long as wanted, repeatable from one printed number.
//!
//! `FUZZ_SECONDS` is the time for each property (one second without a server), `FUZZ_SEED` the first seed
//! (default: the clock). Cases come in rounds; a failure names the seed of its round, with which
//! `FUZZ_SEED=... FUZZ_SECONDS=0` comes to it at once, and shows the smallest input that fails.

use std::env;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime};

use proptest::strategy::{BoxedStrategy, Strategy};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseResult, TestRng, TestRunner};

/// Few enough that a repeated round is quick, enough that the clock is not what is tested.
const ROUND: u32 = 64;

/// How long, and from where on.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// No round begins after that, but one is always run.
    pub time: Duration,
    /// Of the first round; the next have the next ones.
    pub seed: u64,
}

impl Budget {
    /// What the environment says; as many seconds if it says nothing of them.
    pub fn from_env(seconds: f64) -> Self {
        let clock = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
        Self {
            time: Duration::from_secs_f64(variable("FUZZ_SECONDS").unwrap_or(seconds)),
            // A number that is easy to type, and far from that of a run a second later.
            seed: variable("FUZZ_SEED")
                .unwrap_or_else(|| clock.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 34),
        }
    }

    /// Runs rounds until the time is over; returns the number of cases.
    ///
    /// # Errors
    /// The smallest input that fails, why, and how to come to it again.
    pub fn spend<V: fmt::Debug>(
        self,
        strategy: &BoxedStrategy<V>,
        test: &mut dyn FnMut(V) -> TestCaseResult,
    ) -> Result<u64, String> {
        let began = Instant::now();
        let (mut seed, mut cases) = (self.seed, 0);
        loop {
            round(seed, strategy, test).map_err(|failure| {
                format!("{failure}\nrepeat it with FUZZ_SEED={seed} FUZZ_SECONDS=0")
            })?;
            cases += u64::from(ROUND);
            seed += 1;
            if began.elapsed() >= self.time {
                return Ok(cases);
            }
        }
    }
}

/// One property, for as long as the environment says; panics with what [`Budget::spend`] found.
#[track_caller]
pub fn hold<S: Strategy + 'static>(strategy: S, mut test: impl FnMut(S::Value) -> TestCaseResult) {
    let spent = Budget::from_env(1.0).spend(&strategy.boxed(), &mut test);
    println!("{} cases", spent.unwrap_or_else(|failure| panic!("{failure}")));
}

fn round<V: fmt::Debug>(
    seed: u64,
    strategy: &BoxedStrategy<V>,
    test: &mut dyn FnMut(V) -> TestCaseResult,
) -> Result<(), String> {
    // The runner wants a function that changes nothing; ours may hold a connection.
    let test = std::cell::RefCell::new(test);
    let config = Config {
        cases: ROUND,
        max_shrink_iters: 4096,
        failure_persistence: None,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    TestRunner::new_with_rng(config, rng)
        .run(strategy, |value| (test.borrow_mut())(value))
        .map_err(|failure| failure.to_string())
}

fn variable<T: FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: a number is needed")))
}
