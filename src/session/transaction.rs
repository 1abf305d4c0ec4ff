//! What follows the transaction: told when it is about to commit, when it is over, and of its
//! savepoints.

use crate::pg::error;
use crate::session::{claims, counts, guard, observed};
use pgrx::pg_sys;
use pgrx::pg_sys::{SubTransactionId, SubXactEvent, XactEvent};
use rules::error::Result;
use std::cell::Cell;

/// A part of the session that takes back with its savepoints what it remembers.
struct Participant {
    hand_over: fn(SubTransactionId, SubTransactionId),
    roll_back: fn(SubTransactionId),
    /// Whether the transaction committed, or was prepared.
    end: fn(bool),
}

const PARTICIPANTS: [Participant; 3] = [
    Participant { hand_over: counts::hand_over, roll_back: counts::roll_back, end: counts::end },
    Participant {
        hand_over: observed::hand_over,
        roll_back: observed::roll_back,
        end: |_| observed::end(),
    },
    Participant {
        hand_over: claims::hand_over,
        roll_back: claims::roll_back,
        end: |_| claims::end(),
    },
];

/// What is to be done last before a transaction commits; it is told whether the transaction is prepared instead.
pub type Last = fn(bool) -> Result<()>;

thread_local! {
    static LAST: Cell<Option<Last>> = const { Cell::new(None) };
}

/// Has this be done just before the transaction commits or is prepared, if it comes to that: later than all deferred triggers,
/// which SET CONSTRAINTS has run at any time.
pub fn do_last(last: Last) {
    LAST.set(Some(last));
}

fn before_end(is_prepared: bool) -> Result<()> {
    guard::check()?;
    LAST.take().map_or(Ok(()), |last| last(is_prepared))
}

/// Registers the callbacks; called once.
pub fn init() {
    // SAFETY: the callbacks are functions of this library, which Postgres never unloads.
    unsafe {
        pg_sys::RegisterXactCallback(Some(on_transaction_event), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(on_subtransaction_event), std::ptr::null_mut());
    }
}

unsafe extern "C-unwind" fn on_transaction_event(event: XactEvent::Type, _: *mut std::ffi::c_void) {
    match event {
        XactEvent::XACT_EVENT_PRE_COMMIT | XactEvent::XACT_EVENT_PRE_PREPARE => {
            let is_prepared = event == XactEvent::XACT_EVENT_PRE_PREPARE;
            if let Err(raised) = error::catch(|| before_end(is_prepared)) {
                // SAFETY: an error is allowed in these two events and refuses the commit (xact.c). This frame
                // has no destructor, and its caller is CallXactCallbacks.
                unsafe { raised.throw() }
            }
        }
        XactEvent::XACT_EVENT_COMMIT
        | XactEvent::XACT_EVENT_ABORT
        | XactEvent::XACT_EVENT_PREPARE => {
            // PREPARE is the last that this backend learns of a transaction.
            let committed = event != XactEvent::XACT_EVENT_ABORT;
            LAST.set(None);
            for participant in &PARTICIPANTS {
                (participant.end)(committed);
            }
        }
        _ => {}
    }
}

unsafe extern "C-unwind" fn on_subtransaction_event(
    event: SubXactEvent::Type,
    subtransaction: SubTransactionId,
    parent: SubTransactionId,
    _: *mut std::ffi::c_void,
) {
    match event {
        SubXactEvent::SUBXACT_EVENT_ABORT_SUB => {
            for participant in &PARTICIPANTS {
                (participant.roll_back)(subtransaction);
            }
        }
        // Its owner of locks is about to hand them to the parent's.
        SubXactEvent::SUBXACT_EVENT_PRE_COMMIT_SUB => claims::before_hand_over(),
        SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => {
            for participant in &PARTICIPANTS {
                (participant.hand_over)(subtransaction, parent);
            }
        }
        _ => {}
    }
}
