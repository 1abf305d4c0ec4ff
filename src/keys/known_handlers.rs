//! Handlers that were looked up and checked, kept for the calls to come: until something about a
//! function, a schema or a role changes.

use crate::pg::callee::{Callee, Memory};
use crate::pg::search_path::SearchPath;
use crate::pg::{catalog_changes, raw};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::rc::Rc;

/// A backend calls few handlers by few names.
const MOST: usize = 32;
/// Bytes of a name that is kept: two identifiers, quoted, and `(jsonb)`. A longer one is looked up each time.
const LONGEST_NAME: usize = 256;

/// A handler, for the callers that the checks were made for.
pub struct Known {
    name: Box<[u8]>,
    role: pg_sys::Oid,
    search_path: SearchPath,
    pub function: pg_sys::Oid,
    pub is_strict: bool,
    /// `None` for a language that must be looked up at each call.
    pub callee: Option<Callee>,
    /// What `search_path` and `callee` are in. It goes last.
    _memory: Memory,
}

#[derive(Default)]
struct List {
    /// That of the catalog when the first of them was looked up.
    generation: u64,
    handlers: Vec<Rc<Known>>,
}

thread_local! {
    // Not dropped when the process ends: Postgres' memory goes in its own order.
    static LIST: ManuallyDrop<RefCell<List>> =
        const { ManuallyDrop::new(RefCell::new(List { generation: 0, handlers: Vec::new() })) };
}

/// The handler that this name means to the current role, if it was looked up before and nothing
/// has changed.
pub fn find(name: &[u8]) -> Option<Rc<Known>> {
    if is_watched() {
        return None;
    }
    LIST.with(|list| list.borrow_mut().find(name))
}

/// Keeps a handler that the current role may execute.
///
/// # Safety
/// The function must exist.
pub unsafe fn remember(
    name: &[u8],
    function: pg_sys::Oid,
    is_strict: bool,
    generation: u64,
) -> Option<Rc<Known>> {
    if is_watched() || name.len() > LONGEST_NAME {
        return None;
    }
    let memory = Memory::new();
    // SAFETY: `memory` goes together with what is in it; the function exists, as the caller promised.
    let (search_path, callee) = unsafe {
        (SearchPath::remember(memory.context()), Callee::new(function, memory.context()))
    };
    // SAFETY: reads a global of the backend.
    let role = unsafe { pg_sys::GetUserId() };
    let name = name.into();
    let known =
        Rc::new(Known { name, role, search_path, function, is_strict, callee, _memory: memory });
    LIST.with(|list| list.borrow_mut().add(Rc::clone(&known), generation));
    Some(known)
}

/// An extension that watches look-ups (sepgsql, pgaudit) is told of each.
fn is_watched() -> bool {
    // SAFETY: reads a global of the backend that extensions set when they are loaded.
    unsafe { (&raw const pg_sys::object_access_hook).read().is_some() }
}

impl List {
    fn find(&mut self, name: &[u8]) -> Option<Rc<Known>> {
        if self.generation != catalog_changes::generation() {
            self.handlers.clear();
            return None;
        }
        // SAFETY: reads a global of the backend, and cannot raise an error.
        let role = unsafe { raw::GetUserId() };
        let at = self.handlers.iter().position(|known| {
            known.role == role && *known.name == *name && known.search_path.is_current()
        })?;
        if self.handlers[at].is_spoilt() {
            self.handlers.swap_remove(at);
            return None;
        }
        Some(Rc::clone(&self.handlers[at]))
    }

    fn add(&mut self, known: Rc<Known>, generation: u64) {
        if self.generation != generation {
            self.handlers.clear();
            self.generation = generation;
        }
        if self.handlers.len() >= MOST {
            self.handlers.remove(0);
        }
        self.handlers.push(known);
    }
}

impl Known {
    /// A call of it raised an error, so that no call will give it back.
    fn is_spoilt(self: &Rc<Self>) -> bool {
        Rc::strong_count(self) == 1 && self.callee.as_ref().is_some_and(Callee::is_taken)
    }
}
