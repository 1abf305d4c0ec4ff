//! Whether one of the functions for administrators is at work, which do what the triggers of our tables
//! refuse, or note, when it is done by hand.

use std::cell::Cell;

thread_local! {
    /// How many of them are at work in this backend, one within the other.
    static AT_WORK: Cell<u32> = const { Cell::new(0) };
}

/// While it lives, what is done to settings and records is done by the functions for that.
pub struct Configuring;

impl Configuring {
    pub fn begin() -> Self {
        AT_WORK.set(AT_WORK.get() + 1);
        Self
    }
}

impl Drop for Configuring {
    fn drop(&mut self) {
        AT_WORK.set(AT_WORK.get() - 1);
    }
}

pub fn is_at_work() -> bool {
    AT_WORK.get() > 0
}
