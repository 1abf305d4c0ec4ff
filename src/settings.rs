//! Settings (GUCs): private statics, typed getters, one `init`.

use crate::domain::Micros;
use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};

const MICROS_PER_MILLI: Micros = 1_000;

static DEFAULT_WAIT: GucSetting<i32> = GucSetting::<i32>::new(2_000);
static CLOCK_SKEW: GucSetting<i32> = GucSetting::<i32>::new(5_000);

/// How long a claim waits for the holder when neither the call nor its operation says so.
pub fn default_wait() -> Micros {
    Micros::from(DEFAULT_WAIT.get()) * MICROS_PER_MILLI
}

/// How far the clock that dated a key may be off from the database's.
pub fn clock_skew() -> Micros {
    Micros::from(CLOCK_SKEW.get()) * MICROS_PER_MILLI
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
        c"A key dated further in the future is refused; retention is prolonged by it for dated keys.",
        &CLOCK_SKEW,
        0,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_MS,
    );
    // SAFETY: a constant, NUL-terminated prefix; Postgres copies it.
    unsafe { pgrx::pg_sys::MarkGUCPrefixReserved(c"idempotent".as_ptr()) };
}
