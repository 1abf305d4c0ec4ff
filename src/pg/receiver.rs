//! Where a function that returns a row puts its columns for a plan node of ours (`scan`), which takes them
//! one by one and so needs no composite value.
//!
//! It travels as the call's `resultinfo`, by which a caller tells a function in which form it wants the
//! result (fmgr.h). A function that does not look there returns a composite value, as to any caller.

use crate::pg::datum::row::Columns;
use pgrx::pg_sys;
use pgrx::pg_sys::{Datum, FunctionCallInfo, NodeTag};
use std::ptr::NonNull;

/// The columns of one row.
#[repr(C)]
pub struct Receiver {
    /// What every `resultinfo` begins with. Its name tells a receiver from nodes of other extensions.
    node: pg_sys::ExtensibleNode,
    row: Columns,
    is_filled: bool,
}

/// Known by its address, which nothing else has.
static NAME: [u8; 19] = *b"IdempotentReceiver\0";

impl Receiver {
    pub fn empty() -> Self {
        let node = pg_sys::ExtensibleNode {
            type_: NodeTag::T_ExtensibleNode,
            extnodename: NAME.as_ptr().cast(),
        };
        Self { node, row: Columns::null(), is_filled: false }
    }

    /// Forgets the row: all of its columns are null until a function fills them in.
    pub fn clear(&mut self) {
        self.row = Columns::null();
        self.is_filled = false;
    }

    /// For a call, as its `resultinfo`.
    pub fn node(&mut self) -> pg_sys::fmNodePtr {
        (&raw mut self.node).cast()
    }

    /// Whether a function has filled in the columns since `clear`.
    pub fn is_filled(&self) -> bool {
        self.is_filled
    }

    pub fn row(&self) -> &Columns {
        &self.row
    }

    /// The receiver that a call came with.
    ///
    /// # Safety
    /// The call must be in progress.
    pub unsafe fn of(call: FunctionCallInfo) -> Option<NonNull<Self>> {
        // SAFETY: the call is in progress, which this function demands, so its resultinfo is null or a node,
        // and one with the tag of an ExtensibleNode has a name. Only `empty` uses the address of NAME, for the
        // first member of a Receiver, which is laid out as in C.
        unsafe {
            let node: *mut pg_sys::ExtensibleNode = (*call).resultinfo.cast();
            if node.is_null()
                || (*node).type_ != NodeTag::T_ExtensibleNode
                || (*node).extnodename != NAME.as_ptr().cast()
            {
                return None;
            }
            NonNull::new(node.cast())
        }
    }

    /// Takes the columns of a row, from the first on. What is passed by reference must last as long as the
    /// memory context of the call, and lie in memory as a whole.
    pub fn fill(&mut self, columns: &[Option<Datum>]) {
        for (at, value) in columns.iter().enumerate() {
            self.row.set(at, *value);
        }
        self.is_filled = true;
    }
}
