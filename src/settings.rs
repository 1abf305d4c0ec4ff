//! Settings (GUCs): private statics, typed getters, one `init`.

use pgrx::PostgresGucEnum;
use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use rules::Micros;
use rules::policy::Durability;

const MICROS_PER_MILLI: Micros = 1_000;

static DEFAULT_WAIT: GucSetting<i32> = GucSetting::<i32>::new(2_000);
static CLOCK_SKEW: GucSetting<i32> = GucSetting::<i32>::new(5_000);
static SWEEPER_ENABLED: GucSetting<bool> = GucSetting::<bool>::new(true);
static SWEEP_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(10_000);
static SWEEP_BATCH: GucSetting<i32> = GucSetting::<i32>::new(5_000);
static SWEEPER_MAX_WORKERS: GucSetting<i32> = GucSetting::<i32>::new(2);

/// What becomes of a call on an operation that is not configured.
#[derive(Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
pub enum Undeclared {
    #[name = c"allow"]
    Allow,
    #[name = c"warn"]
    Warn,
    #[name = c"refuse"]
    Refuse,
}

static UNDECLARED: GucSetting<Undeclared> = GucSetting::<Undeclared>::new(Undeclared::Allow);

/// What becomes of a call on an operation that is not configured.
pub fn undeclared_operations() -> Undeclared {
    UNDECLARED.get()
}

/// Which table of records an operation gets that is configured for the first time.
#[derive(Clone, Copy, PostgresGucEnum)]
pub enum DefaultDurability {
    #[name = c"unlogged"]
    Unlogged,
    #[name = c"logged"]
    Logged,
}

static DEFAULT_DURABILITY: GucSetting<DefaultDurability> =
    GucSetting::<DefaultDurability>::new(DefaultDurability::Unlogged);

/// The durability of an operation that is configured for the first time, and of which the call does not say it.
/// Nothing else asks, or sessions with different settings would look for one key in different tables.
pub fn default_durability() -> Durability {
    match DEFAULT_DURABILITY.get() {
        DefaultDurability::Unlogged => Durability::Unlogged,
        DefaultDurability::Logged => Durability::Logged,
    }
}

/// How long a claim waits for the holder when neither the call nor its operation says so.
pub fn default_wait() -> Micros {
    Micros::from(DEFAULT_WAIT.get()) * MICROS_PER_MILLI
}

/// How far the clock that dated a key may be off from the database's.
pub fn clock_skew() -> Micros {
    Micros::from(CLOCK_SKEW.get()) * MICROS_PER_MILLI
}

static SCAN_NODE: GucSetting<bool> = GucSetting::<bool>::new(true);

/// Whether a call in FROM is planned as a node of ours.
pub fn scan_node() -> bool {
    SCAN_NODE.get()
}

static AUDIT_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(90 * 24 * 60);

/// How long what administrators did is kept; negative for ever, `None` not at all.
pub fn audit_retention() -> Option<Micros> {
    let minutes = Micros::from(AUDIT_RETENTION.get());
    (minutes != 0).then_some(minutes * 60 * 1_000 * MICROS_PER_MILLI)
}

/// Whether the background worker sweeps.
pub fn sweeper_enabled() -> bool {
    SWEEPER_ENABLED.get()
}

/// How long the background worker leaves a database alone between two visits.
pub fn sweep_interval() -> Micros {
    Micros::from(SWEEP_INTERVAL.get()) * MICROS_PER_MILLI
}

/// How many rows the background worker sweeps in one transaction, at most.
pub fn sweep_batch() -> u64 {
    SWEEP_BATCH.get().unsigned_abs().into()
}

/// How many databases are swept at the same time, at most.
pub fn sweeper_max_workers() -> usize {
    SWEEPER_MAX_WORKERS.get().unsigned_abs() as usize
}

/// Defines the settings; called once, from `_PG_init`.
pub fn init() {
    GucRegistry::define_int_guc(
        c"idempotent.default_wait",
        c"How long a claim waits for the holder of its key.",
        c"Used where neither the call nor its operation sets a wait. 0 never waits.",
        &DEFAULT_WAIT,
        0,
        i32::MAX,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"idempotent.clock_skew",
        c"How far the clocks that date keys may be off.",
        c"A date further in the future is no date; retention is prolonged by it for dated keys.",
        &CLOCK_SKEW,
        0,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_enum_guc(
        c"idempotent.undeclared_operations",
        c"What becomes of a call on an operation that is not configured.",
        c"A misspelt name is an operation of its own: warn, or refuse the call.",
        &UNDECLARED,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"idempotent.default_durability",
        c"Where the records are of an operation that is configured for the first time.",
        c"idempotent_operation() stores it with the operation. An operation that is not configured is unlogged.",
        &DEFAULT_DURABILITY,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"idempotent.audit_retention",
        c"How long idempotent.audit keeps what administrators did.",
        c"-1 keeps it for ever, and 0 writes none.",
        &AUDIT_RETENTION,
        -1,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_MIN,
    );
    GucRegistry::define_bool_guc(
        c"idempotent.scan_node",
        c"Whether a call in FROM is planned as a node of pg_idempotent's own.",
        c"It takes the row of a function as it is, where a function scan stores it and reads it back.",
        &SCAN_NODE,
        GucContext::Userset,
        GucFlags::EXPLAIN,
    );
    GucRegistry::define_bool_guc(
        c"idempotent.sweeper_enabled",
        c"Whether a background worker deletes expired records.",
        c"Needs pg_idempotent in shared_preload_libraries. Without it, call idempotent_sweep().",
        &SWEEPER_ENABLED,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"idempotent.sweep_interval",
        c"How long the background worker leaves a database alone between two visits.",
        c"Expired records count as absent at once, whether they are swept or not.",
        &SWEEP_INTERVAL,
        100,
        24 * 3600 * 1000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"idempotent.sweep_batch",
        c"How many rows the background worker sweeps in one transaction, at most.",
        c"A transaction also ends after 10 milliseconds.",
        &SWEEP_BATCH,
        1,
        1_000_000,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"idempotent.sweeper_max_workers",
        c"How many databases are swept at the same time, at most.",
        c"Each takes one of max_worker_processes while it is swept; the launcher always has one.",
        &SWEEPER_MAX_WORKERS,
        1,
        64,
        GucContext::Sighup,
        GucFlags::default(),
    );
    // SAFETY: MarkGUCPrefixReserved copies the prefix, which is NUL-terminated.
    unsafe { pgrx::pg_sys::MarkGUCPrefixReserved(c"idempotent".as_ptr()) };
}
