//! What this backend remembers of the claims held by its transaction.
//!
//! A claim held by a transaction leaves no row until it is finished, so that it is open is known
//! here alone. What is remembered follows savepoints, like the locks and rows that go with it.

use crate::pg::lock::{self, Level};
use crate::session::undo::{Journal, NOWHERE, OUTERMOST, UndoMap, current_subtransaction};
use pgrx::pg_sys;
use pgrx::pg_sys::{Datum, SubTransactionId};
use rules::Timestamp;
use rules::error::Result;
use rules::identity::{Identity, RecordId};
use rules::request::fingerprint::Fingerprint;
use std::cell::RefCell;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// The work is being done.
    Open,
    /// An answer is stored.
    Finished,
    /// Only observed: the key is not held, and the work is done all the same.
    LetThrough,
    /// Only observed: another request came with the key, in the same transaction. An answer
    /// that is given after that may be either request's, so none is stored.
    Ambiguous,
    /// The key was given back; the lock stays until the transaction ends.
    Released,
}

impl Status {
    /// Whether an answer may yet come.
    pub fn is_unfinished(self) -> bool {
        matches!(self, Self::Open | Self::LetThrough | Self::Ambiguous)
    }

    /// Whether the transaction does the work without holding the key.
    pub fn is_let_through(self) -> bool {
        matches!(self, Self::LetThrough | Self::Ambiguous)
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
    /// Held by no lock: by a row (see [`is_room_for_lock`]), or not at all.
    pub lockless: bool,
    /// The subtransaction that took the lock; [`NOWHERE`] if there is none, or more than one.
    pub locked_in: SubTransactionId,
    /// When the key was first sent, if the caller said so.
    pub first_sent: Option<Timestamp>,
    /// A record that counts as absent may be in the place of the answer.
    pub replaces_absent: bool,
    /// The transaction must finish the claim before it commits.
    pub guarded: bool,
}

/// Operation, scope and key of a claim, for the guard's message.
pub struct Name {
    text: Box<[u8]>,
    operation_length: usize,
    scope_length: usize,
}

impl Name {
    fn of(identity: &Identity<'_>) -> Self {
        let parts = [identity.operation(), identity.scope(), identity.key()];
        Self {
            text: parts.concat().into_boxed_slice(),
            operation_length: parts[0].len(),
            scope_length: parts[1].len(),
        }
    }

    pub fn parts(&self) -> [&[u8]; 3] {
        let (operation, rest) = self.text.split_at(self.operation_length);
        let (scope, key) = rest.split_at(self.scope_length);
        [operation, scope, key]
    }

    fn is_of(&self, identity: &Identity<'_>) -> bool {
        self.parts() == [identity.operation(), identity.scope(), identity.key()]
    }

    pub fn describe(&self) -> String {
        let [operation, scope, key] = self.parts();
        Identity::new(Some(operation), Some(scope), Some(key))
            .map_or_else(|_| String::new(), |identity| identity.describe())
    }
}

#[derive(Default)]
struct Claims {
    remembered: UndoMap<Claim, Name>,
    /// Claims held by a lock of their own.
    locked: usize,
    /// Those of them whose row can stand for the lock: they were finished in the subtransaction that claimed
    /// them, so that no rollback takes back the row and leaves the claim.
    finished: Journal<RecordId>,
    /// The claim that was made last, which a rollback may have taken back.
    latest: Option<RecordId>,
}

thread_local! {
    // Borrowed only for moments in which nothing of Postgres is called: its callbacks borrow too.
    static CLAIMS: RefCell<Claims> = RefCell::new(Claims::default());
}

/// The claim that the current transaction holds or held on a key.
pub fn get(id: RecordId) -> Option<Claim> {
    CLAIMS.with_borrow(|claims| claims.remembered.get(id))
}

/// The id of the claim that was made last, if that is of this key: what finishes a claim mostly comes next, and
/// need not digest its names again.
pub fn id_of_latest(identity: &Identity<'_>) -> Option<RecordId> {
    CLAIMS.with_borrow(|claims| {
        let id = claims.latest?;
        claims.remembered.fixed(id)?.is_of(identity).then_some(id)
    })
}

/// Remembers a claim just made.
///
/// # Errors
/// 53200 if there is no memory for it.
pub fn open(id: RecordId, identity: &Identity<'_>, claim: Claim) -> Result<()> {
    let checkpoint = claim.checkpoint.map(keep_until_transaction_ends);
    let name = Name::of(identity);
    CLAIMS.with_borrow_mut(|claims| {
        let is_first = claims.remembered.get(id).is_none();
        let locked_in =
            if is_first && !claim.lockless { current_subtransaction() } else { NOWHERE };
        let claim = Claim { checkpoint, locked_in, ..claim };
        let before = claims.remembered.insert(id, name, claim)?;
        claims.latest = Some(id);
        claims.count(before, Some(claim));
        Ok(())
    })
}

fn keep_until_transaction_ends(varlena: Datum) -> Datum {
    // SAFETY: a checkpoint is a jsonb, which is a varlena. The copy lives in TopTransactionContext, which
    // outlives savepoints, and `end` forgets it when the transaction ends.
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
    CLAIMS.with_borrow_mut(|claims| {
        claims.remembered.change(id, |claim| claim.status = status)?;
        if status == Status::Finished { claims.note_finished(id) } else { Ok(()) }
    })
}

/// Whether the next claim can be held by a lock, in the transaction's share of the lock table. Where the
/// share is used up, the rows of finished claims stand for their locks: others find the row being inserted,
/// and wait for the transaction. Not before, as a lock shows in pg_locks which key is being waited for.
pub fn is_room_for_lock(fair_share: usize) -> bool {
    let is_room = || CLAIMS.with_borrow(|claims| claims.locked < fair_share);
    is_room() || {
        let_rows_stand();
        is_room()
    }
}

/// A savepoint is about to be released. Where the share of the lock table is used up, its locks are given back
/// here, as a savepoint further in could not.
pub fn before_hand_over() {
    is_room_for_lock(lock::fair_share());
}

/// Gives back the locks of finished claims, as far as this subtransaction or the outermost one has them.
fn let_rows_stand() {
    let current = current_subtransaction();
    let mut finished = CLAIMS.with_borrow_mut(|claims| std::mem::take(&mut claims.finished));
    finished.retain_undone(|made_in, id| {
        let level = match made_in {
            OUTERMOST => Level::Outermost,
            _ if made_in == current => Level::Current,
            _ => return false,
        };
        lock::give_back_kept(*id, level);
        CLAIMS.with_borrow_mut(|claims| claims.has_no_lock_now(*id));
        true
    });
    CLAIMS.with_borrow_mut(|claims| claims.finished = finished);
}

/// Calls `look` with the claims that are still open, and their names.
pub fn with_open<T>(look: impl FnOnce(&mut dyn Iterator<Item = (&Claim, &Name)>) -> T) -> T {
    CLAIMS.with_borrow(|claims| {
        let mut open = claims.remembered.iter().filter(|(claim, _)| claim.status == Status::Open);
        look(&mut open)
    })
}

impl Claims {
    /// A transaction with one claim never comes near its share, and notes nothing.
    fn note_finished(&mut self, id: RecordId) -> Result<()> {
        let current = current_subtransaction();
        // A savepoint in which the lock was taken and that has been released since has the higher number.
        let is_locked_here =
            |claim: Claim| claim.locked_in != NOWHERE && claim.locked_in >= current;
        if self.locked > 1 && self.remembered.get(id).is_some_and(is_locked_here) {
            self.finished.make_room()?;
            self.finished.note(current, id);
        }
        Ok(())
    }

    fn has_no_lock_now(&mut self, id: RecordId) {
        let before = self.remembered.get(id);
        self.remembered.change_for_good(id, |claim| {
            claim.lockless = true;
            claim.locked_in = NOWHERE;
        });
        self.count(before, self.remembered.get(id));
    }

    /// Keeps the number of claims that are held by a lock of their own.
    fn count(&mut self, before: Option<Claim>, after: Option<Claim>) {
        let locks = |claim: Option<Claim>| usize::from(claim.is_some_and(|claim| !claim.lockless));
        self.locked = (self.locked + locks(after)).saturating_sub(locks(before));
    }

    fn hand_over(&mut self, subtransaction: SubTransactionId, parent: SubTransactionId) {
        self.remembered.hand_over(subtransaction, parent);
        self.finished.hand_over(subtransaction, parent);
    }

    fn roll_back(&mut self, subtransaction: SubTransactionId) {
        self.finished.forget_since(subtransaction);
        let mut remembered = std::mem::take(&mut self.remembered);
        remembered.roll_back(subtransaction, |now, before| self.count(now, before));
        self.remembered = remembered;
    }
}

/// A subtransaction is rolled back, and its claims with it.
pub fn roll_back(subtransaction: SubTransactionId) {
    CLAIMS.with_borrow_mut(|claims| claims.roll_back(subtransaction));
}

/// A subtransaction ended well.
pub fn hand_over(subtransaction: SubTransactionId, parent: SubTransactionId) {
    CLAIMS.with_borrow_mut(|claims| claims.hand_over(subtransaction, parent));
}

/// The transaction is over.
pub fn end() {
    CLAIMS.with_borrow_mut(|claims| {
        claims.remembered.end();
        claims.locked = 0;
        claims.latest = None;
        claims.finished = Journal::default();
    });
}
