//! Whose handlers are running in this backend: one that asked for its own key again would wait for itself,
//! or do the work twice.

use rules::error::{Code, Error, Result};
use rules::identity::{Identity, RecordId};
use std::cell::RefCell;

/// What a handler is called for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// A key, by `idempotent_run`.
    Key,
    /// The step of a saga.
    Step,
}

thread_local! {
    /// Innermost last.
    static RUNNING: RefCell<Vec<(For, RecordId)>> = const { RefCell::new(Vec::new()) };
}

/// A handler is running, until this is dropped.
#[must_use]
pub struct Running;

impl Running {
    /// # Errors
    /// 55006 if the handler is already running, and is `refused` to be called again.
    pub fn enter(what: For, id: RecordId, identity: &Identity<'_>, refused: bool) -> Result<Self> {
        let me = (what, id);
        if refused && RUNNING.with_borrow(|running| running.contains(&me)) {
            let (message, function, hint) = match what {
                For::Key => (
                    "the key's handler is running",
                    "idempotent_run",
                    "Do the work in the handler itself, or run another key.",
                ),
                For::Step => (
                    "the saga's handler is running",
                    "a step",
                    "Do the work in the handler itself: what is next is called after it.",
                ),
            };
            return Err(Error::new(Code::ObjectInUse, message)
                .detail(format!(
                    "A handler called {function} for its own key: {}.",
                    identity.describe()
                ))
                .hint(hint));
        }
        RUNNING.with_borrow_mut(|running| running.push(me));
        Ok(Self)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.with_borrow_mut(Vec::pop);
    }
}
