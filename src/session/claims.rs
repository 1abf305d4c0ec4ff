//! What this backend remembers of the claims held by its transaction, and the commit guard.
//!
//! A claim held by a transaction leaves no row until it is finished, so that it is open is known
//! here alone. What is remembered follows savepoints: a journal says what to undo when one is
//! rolled back, like the locks and rows that go with it.

use crate::pg::{clock, error, memory};
use crate::session::undo::{Journal, OUTERMOST, current_subtransaction};
use crate::session::{counts, observed};
use crate::stats::{self, Counter, samples};
use pgrx::pg_sys;
use pgrx::pg_sys::{Datum, SubTransactionId, SubXactEvent, XactEvent};
use rules::Timestamp;
use rules::error::{Code, Error, Result};
use rules::identity::{Identity, RecordId};
use rules::observe::Observed;
use rules::request::fingerprint::Fingerprint;
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// The work is being done.
    Open,
    /// An answer is stored.
    Finished,
    /// Only observed: the key is not held, and the work is done all the same.
    Passed,
    /// Only observed: another request came with the key, in the same transaction. Whose answer is
    /// given after that nobody can tell, so none is stored.
    Ambiguous,
    /// The key was given back; the lock stays until the transaction ends.
    Released,
}

impl Status {
    /// Whether an answer may yet come.
    pub fn is_unfinished(self) -> bool {
        matches!(self, Self::Open | Self::Passed | Self::Ambiguous)
    }

    /// Whether the transaction does the work without holding the key.
    pub fn is_passing(self) -> bool {
        matches!(self, Self::Passed | Self::Ambiguous)
    }
}

/// A claim held by the current transaction.
#[derive(Clone, Copy)]
pub struct Claim {
    pub status: Status,
    pub fingerprint: Option<Fingerprint>,
    pub attempt: i32,
    /// What the holder before left; kept until the transaction ends.
    pub checkpoint: Option<Datum>,
    /// Held by a placeholder row and no longer by a lock: see [`must_spill`].
    pub spilled: bool,
    /// When the key was first sent, if the caller said so.
    pub first_sent: Option<Timestamp>,
    /// A record that counts as absent may be in the place of the answer.
    pub over_absent: bool,
    /// The operation is only observed: the claim may be left open.
    pub observed: bool,
}

struct Remembered {
    claim: Claim,
    /// The subtransaction in which the journal last noted what the claim was before.
    noted_in: SubTransactionId,
    /// Operation, scope and key, for the guard's message.
    identity: Box<[u8]>,
    operation_length: usize,
    scope_length: usize,
}

impl Remembered {
    fn operation(&self) -> &[u8] {
        &self.identity[..self.operation_length]
    }

    fn parts(&self) -> [&[u8]; 3] {
        let (operation, rest) = self.identity.split_at(self.operation_length);
        let (scope, key) = rest.split_at(self.scope_length);
        [operation, scope, key]
    }

    fn describe(&self) -> String {
        let [operation, scope, key] = self.parts();
        Identity::new(Some(operation), Some(scope), Some(key))
            .map_or_else(|_| String::new(), |identity| identity.describe())
    }
}

/// A record id is a digest already: a part of it is as good a hash as any.
#[derive(Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks_exact(size_of::<u64>()) {
            self.0 ^= chunk.iter().fold(0, |hash, byte| (hash << 8) | u64::from(*byte));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A change to undo when the subtransaction that made it is rolled back.
struct Change {
    id: RecordId,
    /// What was remembered before; `None`: nothing.
    before: Option<Claim>,
}

#[derive(Default)]
struct Claims {
    by_id: HashMap<RecordId, Remembered, BuildHasherDefault<IdHasher>>,
    journal: Journal<Change>,
    /// Claims held by a lock of their own.
    locked: usize,
}

thread_local! {
    // Borrowed only for moments in which nothing of Postgres is called: its callbacks borrow too.
    static CLAIMS: RefCell<Claims> = RefCell::new(Claims::default());
}

pub fn init() {
    // SAFETY: registers callbacks of this library, which Postgres never unloads.
    unsafe {
        pg_sys::RegisterXactCallback(Some(on_transaction_event), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(on_subtransaction_event), std::ptr::null_mut());
    }
}

/// The claim that the current transaction holds or held on a key.
pub fn get(id: RecordId) -> Option<Claim> {
    CLAIMS.with_borrow(|claims| claims.by_id.get(&id).map(|remembered| remembered.claim))
}

/// Remembers a claim just made.
///
/// # Errors
/// 53200 if there is no memory for it.
pub fn open(id: RecordId, identity: &Identity<'_>, claim: Claim) -> Result<()> {
    let made_in = current_subtransaction();
    let checkpoint = claim.checkpoint.map(keep_until_transaction_ends);
    let claim = Claim { checkpoint, ..claim };
    let parts = [identity.operation(), identity.scope(), identity.key()];
    let mut remembered = Remembered {
        claim,
        noted_in: NOWHERE,
        identity: parts.concat().into_boxed_slice(),
        operation_length: parts[0].len(),
        scope_length: parts[1].len(),
    };
    CLAIMS.with_borrow_mut(|claims| {
        claims.by_id.try_reserve(1).map_err(|_| memory::out_of_memory())?;
        let before = claims.by_id.get(&id).map(|earlier| (earlier.claim, earlier.noted_in));
        let noted_in = before.map_or(NOWHERE, |(_, noted_in)| noted_in);
        let before = before.map(|(claim, _)| claim);
        remembered.noted_in = claims.note(made_in, noted_in, Change { id, before })?;
        claims.by_id.insert(id, remembered);
        claims.count(before, Some(claim));
        Ok(())
    })
}

fn keep_until_transaction_ends(varlena: Datum) -> Datum {
    // SAFETY: a varlena; the copy lives as long as what is remembered, and outlives savepoints.
    unsafe {
        let context = pg_sys::MemoryContextSwitchTo(pg_sys::TopTransactionContext);
        let copy = pg_sys::pg_detoast_datum_copy(varlena.cast_mut_ptr());
        pg_sys::MemoryContextSwitchTo(context);
        Datum::from(copy)
    }
}

/// Remembers what became of a claim.
///
/// # Errors
/// 53200 if there is no memory for it.
pub fn close(id: RecordId, status: Status) -> Result<()> {
    let made_in = current_subtransaction();
    CLAIMS.with_borrow_mut(|claims| {
        let earlier = claims.by_id.get(&id).map(|earlier| (earlier.claim, earlier.noted_in));
        let Some((before, noted_in)) = earlier else { return Ok(()) };
        let noted_in = claims.note(made_in, noted_in, Change { id, before: Some(before) })?;
        if let Some(remembered) = claims.by_id.get_mut(&id) {
            remembered.claim.status = status;
            remembered.noted_in = noted_in;
        }
        Ok(())
    })
}

/// Whether the transaction holds its share of the lock table already, so that the next claim must
/// be held by a row instead of a lock.
pub fn must_spill(fair_share: usize) -> bool {
    CLAIMS.with_borrow(|claims| claims.locked >= fair_share)
}

/// Postgres' InvalidSubTransactionId (c.h): no subtransaction has this number.
const NOWHERE: SubTransactionId = 0;

impl Claims {
    /// Notes a change for the case that its subtransaction is rolled back; where the latest note
    /// of the claim is then. A transaction that asks for the same key a million times keeps one
    /// note of it for each savepoint, and outside of savepoints, where nothing is taken back
    /// without the rest, none.
    fn note(
        &mut self,
        made_in: SubTransactionId,
        noted_in: SubTransactionId,
        change: Change,
    ) -> Result<SubTransactionId> {
        if made_in != OUTERMOST && made_in != noted_in {
            self.journal.make_room()?;
            self.journal.note(made_in, change);
        }
        Ok(made_in)
    }

    fn hand_over(&mut self, subtransaction: SubTransactionId, parent: SubTransactionId) {
        if parent == OUTERMOST {
            self.journal.forget_since(subtransaction);
        } else {
            self.journal.hand_over(subtransaction, parent);
        }
    }

    fn roll_back(&mut self, subtransaction: SubTransactionId) {
        while let Some(change) = self.journal.pop_since(subtransaction) {
            let now = match change.before {
                Some(before) => self
                    .by_id
                    .get_mut(&change.id)
                    .map(|remembered| std::mem::replace(&mut remembered.claim, before)),
                None => self.by_id.remove(&change.id).map(|remembered| remembered.claim),
            };
            self.count(now, change.before);
        }
    }

    /// Keeps the number of claims that are held by a lock of their own.
    fn count(&mut self, before: Option<Claim>, after: Option<Claim>) {
        let locks = |claim: Option<Claim>| usize::from(claim.is_some_and(|claim| !claim.spilled));
        self.locked = (self.locked + locks(after)).saturating_sub(locks(before));
    }

    /// Claims that the commit guard would refuse, were they not only observed.
    fn note_unfinished(&self) {
        let unfinished = |remembered: &&Remembered| {
            let claim = &remembered.claim;
            claim.observed && claim.status == Status::Open
        };
        for remembered in self.by_id.values().filter(unfinished) {
            let parts = remembered.parts();
            stats::add(parts[0], Counter::of_observed(Observed::Unfinished), 1);
            samples::keep(Observed::Unfinished, clock::now(), parts);
        }
    }

    /// The commit guard: a claim that is still open is a completion that was forgotten.
    fn check(&self) -> Result<()> {
        self.note_unfinished();
        let open = |remembered: &&Remembered| {
            remembered.claim.status == Status::Open && !remembered.claim.observed
        };
        let Some(forgotten) = self.by_id.values().find(open) else {
            return Ok(());
        };
        let count = self.by_id.values().filter(open).count();
        let mut operations = Vec::new();
        // Without memory for it the refusal is not counted.
        if operations.try_reserve_exact(count).is_ok() {
            operations.extend(self.by_id.values().filter(open).map(Remembered::operation));
            operations.sort_unstable();
            operations.dedup();
        }
        for operation in operations {
            stats::add(operation, Counter::GuardRefused, 1);
        }
        let others = count - 1;
        let mut detail = format!("Claimed and not finished: {}", forgotten.describe());
        if others > 0 {
            detail.push_str(&format!(", and {others} more"));
        }
        detail.push('.');
        Err(Error::new(Code::Guard, "a claimed key is neither completed nor released")
            .detail(detail)
            .hint(
                "Before COMMIT, call idempotent_complete, idempotent_fail or idempotent_release for every key that was claimed. Outside BEGIN each statement commits by itself: use idempotent_run there.",
            ))
    }
}

unsafe extern "C-unwind" fn on_transaction_event(event: XactEvent::Type, _: *mut std::ffi::c_void) {
    match event {
        XactEvent::XACT_EVENT_PRE_COMMIT | XactEvent::XACT_EVENT_PRE_PREPARE => {
            if let Err(raised) = error::catch(|| CLAIMS.with_borrow(Claims::check)) {
                // SAFETY: an error here refuses the commit (xact.c); nothing is left to drop.
                unsafe { raised.throw() }
            }
        }
        XactEvent::XACT_EVENT_COMMIT
        | XactEvent::XACT_EVENT_ABORT
        | XactEvent::XACT_EVENT_PREPARE => {
            // PREPARE is the last that this backend learns of a transaction.
            counts::end(event != XactEvent::XACT_EVENT_ABORT);
            observed::end();
            CLAIMS.with_borrow_mut(|claims| {
                // Also the room that claims had which were rolled back.
                if claims.by_id.capacity() > 0 {
                    *claims = Claims::default();
                }
            });
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
    CLAIMS.with_borrow_mut(|claims| match event {
        SubXactEvent::SUBXACT_EVENT_ABORT_SUB => {
            claims.roll_back(subtransaction);
            counts::roll_back(subtransaction);
            observed::roll_back(subtransaction);
        }
        SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => {
            claims.hand_over(subtransaction, parent);
            counts::hand_over(subtransaction, parent);
            observed::hand_over(subtransaction, parent);
        }
        _ => {}
    });
}
