//! What this backend remembers of the claims held by its transaction.
//!
//! A claim held by a transaction leaves no row until it is finished, so that it is open is known
//! here alone. What is remembered follows savepoints, like the locks and rows that go with it.

use crate::session::undo::UndoMap;
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
    /// Held by no lock: by a placeholder row (see [`must_hold_by_row`]), or not at all.
    pub lockless: bool,
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
}

thread_local! {
    // Borrowed only for moments in which nothing of Postgres is called: its callbacks borrow too.
    static CLAIMS: RefCell<Claims> = RefCell::new(Claims::default());
}

/// The claim that the current transaction holds or held on a key.
pub fn get(id: RecordId) -> Option<Claim> {
    CLAIMS.with_borrow(|claims| claims.remembered.get(id))
}

/// Remembers a claim just made.
///
/// # Errors
/// 53200 if there is no memory for it.
pub fn open(id: RecordId, identity: &Identity<'_>, claim: Claim) -> Result<()> {
    let checkpoint = claim.checkpoint.map(keep_until_transaction_ends);
    let claim = Claim { checkpoint, ..claim };
    let name = Name::of(identity);
    CLAIMS.with_borrow_mut(|claims| {
        let before = claims.remembered.insert(id, name, claim)?;
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
    CLAIMS.with_borrow_mut(|claims| claims.remembered.change(id, |claim| claim.status = status))
}

/// Whether the transaction holds its share of the lock table already, so that the next claim must
/// be held by a row instead of a lock.
pub fn must_hold_by_row(fair_share: usize) -> bool {
    CLAIMS.with_borrow(|claims| claims.locked >= fair_share)
}

/// Calls `look` with the claims that are still open, and their names.
pub fn with_open<T>(look: impl FnOnce(&mut dyn Iterator<Item = (&Claim, &Name)>) -> T) -> T {
    CLAIMS.with_borrow(|claims| {
        let mut open = claims.remembered.iter().filter(|(claim, _)| claim.status == Status::Open);
        look(&mut open)
    })
}

impl Claims {
    /// Keeps the number of claims that are held by a lock of their own.
    fn count(&mut self, before: Option<Claim>, after: Option<Claim>) {
        let locks = |claim: Option<Claim>| usize::from(claim.is_some_and(|claim| !claim.lockless));
        self.locked = (self.locked + locks(after)).saturating_sub(locks(before));
    }

    fn roll_back(&mut self, subtransaction: SubTransactionId) {
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
    CLAIMS.with_borrow_mut(|claims| claims.remembered.hand_over(subtransaction, parent));
}

/// The transaction is over.
pub fn end() {
    CLAIMS.with_borrow_mut(|claims| {
        claims.remembered.end();
        claims.locked = 0;
    });
}
