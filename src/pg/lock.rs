//! The lock of a record: a transaction-level advisory lock on its id.
//!
//! Every claim and every write of a key holds it, so tuples are not fought over, the lock manager
//! does the waiting, and its deadlock detector sees it.

use crate::pg::{limit, raw, subtransaction};
use pgrx::pg_sys;
use rules::Micros;
use rules::identity::RecordId;

/// Fourth field of the lock's tag, shown as `objsubid` in pg_locks. Postgres' own advisory locks
/// use 1 and 2 (lockfuncs.c), so an application's can never be one of ours.
pub const CLASS: u16 = 478;

/// How these locks are held.
pub const MODE: pg_sys::LOCKMODE = pg_sys::ExclusiveLock as pg_sys::LOCKMODE;

/// The same for what is held for a moment alone, and is no claim: see [`Names`].
const MOMENTARY: u16 = 479;

/// The same for the lock of a saga, which a transaction holds while it does a step.
const SAGA: u16 = 480;

/// The same for the locks of puts into the outbox: on a topic, a key or a message id.
const OUTBOX: u16 = 481;

/// The same for the lock of an operation: see `tables/changing.rs`.
pub const OPERATION: u16 = 482;

/// The tag of a saga's lock.
pub fn saga_tag(id: RecordId) -> pg_sys::LOCKTAG {
    advisory(id.lock_key(), SAGA)
}

/// The tag of a record's lock.
pub fn tag(id: RecordId) -> pg_sys::LOCKTAG {
    advisory(id.lock_key(), CLASS)
}

fn advisory((high, low): (u32, u32), class: u16) -> pg_sys::LOCKTAG {
    pg_sys::LOCKTAG {
        // SAFETY: MyDatabaseId is set when the backend connects and never written after that.
        locktag_field1: u32::from(unsafe { pg_sys::MyDatabaseId }),
        locktag_field2: high,
        locktag_field3: low,
        locktag_field4: class,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
    }
}

/// The tag of an operation's lock.
pub fn operation_tag(name: &[u8]) -> pg_sys::LOCKTAG {
    let hash = Names::new(&[name]).0;
    advisory(((hash >> 32) as u32, hash as u32), OPERATION)
}

/// Tags of locks by name, for rows that are looked up and written in one go. Two names with one tag
/// wait for each other a little: no backend waits for anything else while it holds one.
#[derive(Clone, Copy)]
pub struct Names(u64);

impl Names {
    /// Of names that all begin with these parts.
    pub fn new(parts: &[&[u8]]) -> Self {
        parts.iter().fold(Self(0xcbf2_9ce4_8422_2325), |names, part| Self(names.hash(part)))
    }

    /// FNV-1a, with the end of each part marked by a byte that UTF-8 has no use for.
    fn hash(self, part: &[u8]) -> u64 {
        let bytes = part.iter().chain([&0xff]);
        bytes.fold(self.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
    }

    pub fn tag(self, name: &[u8]) -> pg_sys::LOCKTAG {
        let hash = self.hash(name);
        advisory(((hash >> 32) as u32, hash as u32), MOMENTARY)
    }
}

/// Makes the (sub)transaction the owner of locks taken and given back, whatever portal or internal
/// subtransaction the call happens in: `LockRelease` wants the same owner that acquired.
pub(super) struct TransactionOwner(pg_sys::ResourceOwner);

impl TransactionOwner {
    fn set() -> Self {
        Self::set_to(Level::Current)
    }

    /// Leaves the owner as it is, for locks that are taken by [`try_relation_raw`]: an error jumps out of that.
    pub(super) fn keep() -> Self {
        // SAFETY: reads a pointer of this backend, which has one thread.
        Self(unsafe { pg_sys::CurrentResourceOwner })
    }

    fn set_to(level: Level) -> Self {
        // SAFETY: these are the owners of the current subtransaction and of the whole transaction, and the one
        // kept here was current when the call began: none is released before that subtransaction ends, which is
        // after the drop.
        unsafe {
            let before = pg_sys::CurrentResourceOwner;
            pg_sys::CurrentResourceOwner = match level {
                Level::Current => pg_sys::CurTransactionResourceOwner,
                Level::Outermost => pg_sys::TopTransactionResourceOwner,
            };
            Self(before)
        }
    }
}

/// The part of the transaction that a lock was taken in, or was handed to.
#[derive(Clone, Copy)]
pub enum Level {
    /// The innermost savepoint that is open.
    Current,
    /// The transaction, outside of all savepoints.
    Outermost,
}

impl Drop for TransactionOwner {
    fn drop(&mut self) {
        // SAFETY: `set_to` and `keep` kept the owner in the same subtransaction, which has not ended, so it exists.
        unsafe { pg_sys::CurrentResourceOwner = self.0 };
    }
}

/// The lock of a key, given back when dropped unless it is kept.
#[must_use]
pub struct KeyLock(pg_sys::LOCKTAG);

impl KeyLock {
    /// Takes the lock if no other transaction holds it.
    pub fn try_acquire(tag: pg_sys::LOCKTAG) -> Option<Self> {
        let _owner = TransactionOwner::set();
        // SAFETY: LockAcquire copies the tag, whose method is USER_LOCKMETHOD (every tag comes from
        // `advisory`), and MODE is one of that method's.
        let result = unsafe { pg_sys::LockAcquire(&tag, MODE, false, true) };
        (result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL).then(|| Self(tag))
    }

    /// Takes the lock, waiting as long as the caller's own timeouts allow.
    pub fn acquire(tag: pg_sys::LOCKTAG) -> Self {
        let _owner = TransactionOwner::set();
        // SAFETY: an error is resumed; `wait_for_lock` has nothing but a reference.
        let acquired = unsafe { subtransaction::call_keeping_error(|| wait_for_lock(&tag)) };
        acquired.unwrap_or_else(|error| error.resume());
        Self(tag)
    }

    /// Takes the lock, waiting for at most `wait`; `None` if another transaction held it all the while.
    pub fn acquire_within(tag: pg_sys::LOCKTAG, wait: Micros) -> Option<Self> {
        // The internal subtransaction hands the lock to the caller's when it ends.
        held_within(wait, || wait_for_lock(&tag)).map(|()| Self(tag))
    }

    /// Holds the lock until the transaction ends, or the savepoint that it was taken in is rolled
    /// back.
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

/// Gives the lock of a record back that was kept, before the transaction ends.
pub fn give_back_kept(id: RecordId, level: Level) {
    let _owner = TransactionOwner::set_to(level);
    // SAFETY: LockRelease copies the tag; a lock that is not held is a warning (lock.c). It is held: the owner of
    // this level acquired it, or was handed it when a savepoint was released.
    unsafe { pg_sys::LockRelease(&tag(id), MODE, false) };
}

impl Drop for KeyLock {
    fn drop(&mut self) {
        // While an error unwinds, Postgres' abort gives the lock back.
        if std::thread::panicking() {
            return;
        }
        let _owner = TransactionOwner::set();
        // SAFETY: LockRelease copies the tag; a lock that is not held is a warning (lock.c). It is held:
        // the subtransaction's owner acquired it, or was handed it by an internal subtransaction.
        unsafe { pg_sys::LockRelease(&self.0, MODE, false) };
    }
}

/// Takes a lock of the outbox until the transaction ends, or the savepoint that it was taken in is
/// rolled back; `shared` with all that share it. False if another transaction is in the way.
pub fn try_outbox(number: i64, shared: bool) -> bool {
    let _owner = TransactionOwner::set();
    // SAFETY: a valid tag; the lock is released with the transaction or subtransaction.
    let result = unsafe { pg_sys::LockAcquire(&outbox_tag(number), mode(shared), false, true) };
    result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

/// The same, waiting for at most `wait`.
pub fn outbox_within(number: i64, shared: bool, wait: Micros) -> bool {
    let (tag, mode) = (outbox_tag(number), mode(shared));
    let wait_for = || {
        // SAFETY: a valid tag.
        unsafe { raw::LockAcquire(&tag, mode, false, false) };
    };
    held_within(wait, wait_for).is_some()
}

fn outbox_tag(number: i64) -> pg_sys::LOCKTAG {
    advisory(((number >> 32) as u32, number as u32), OUTBOX)
}

fn mode(shared: bool) -> pg_sys::LOCKMODE {
    if shared { pg_sys::ShareLock as pg_sys::LOCKMODE } else { MODE }
}

fn wait_for_lock(tag: &pg_sys::LOCKTAG) {
    // SAFETY: LockAcquire copies the tag. An error jumps over this frame, which has no destructor, to the
    // `call_keeping_error` in which both callers run it.
    unsafe { raw::LockAcquire(tag, MODE, false, false) };
}

/// Waits for the end of the transaction that is writing a record, as long as the caller's own
/// timeouts allow.
pub fn transaction_ends(xid: pg_sys::TransactionId) {
    // SAFETY: an error is resumed; `wait_for_transaction` has nothing but a number.
    let ended = unsafe { subtransaction::call_keeping_error(|| wait_for_transaction(xid)) };
    ended.unwrap_or_else(|error| error.resume());
}

/// Waits for the end of the transaction that is writing a record, for at most `wait`.
pub fn transaction_ends_within(xid: pg_sys::TransactionId, wait: Micros) -> bool {
    held_within(wait, || wait_for_transaction(xid)).is_some()
}

fn wait_for_transaction(xid: pg_sys::TransactionId) {
    // SAFETY: XactLockTableWait takes any valid xid, and null for relation and tuple, which only serve the
    // error context. An error jumps over this frame, which has no destructor, to the `call_keeping_error`
    // in which both callers run it.
    unsafe {
        raw::XactLockTableWait(
            xid,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            pg_sys::XLTW_Oper::XLTW_None,
        );
    }
}

/// Does what waits for a lock of any kind; `None` if `wait` was not enough, and nothing was done.
///
/// Nothing in `body` may have a destructor.
pub fn held_within<T: Copy>(wait: Micros, body: impl FnOnce() -> T + Copy) -> Option<T> {
    subtransaction::within_lock_timeout(milliseconds(wait), body)
}

fn milliseconds(wait: Micros) -> i32 {
    i32::try_from(wait / 1_000).unwrap_or(i32::MAX)
}

/// Waits for the end of every transaction, prepared ones included, that writes the table now, as long as
/// the session's own timeouts allow. It lets others begin meanwhile.
///
/// # Safety
/// It may raise an error past Rust: call it as `pg::raw` says.
pub unsafe fn writers_end(table: pg_sys::Oid) {
    let tag = pg_sys::LOCKTAG {
        // SAFETY: MyDatabaseId is set when the backend connects and never written after that.
        locktag_field1: u32::from(unsafe { pg_sys::MyDatabaseId }),
        locktag_field2: u32::from(table),
        locktag_field3: 0,
        locktag_field4: 0,
        locktag_type: pg_sys::LockTagType::LOCKTAG_RELATION as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    };
    let writers = pg_sys::ShareLock as pg_sys::LOCKMODE;
    // SAFETY: WaitForLockers reads the tag of a table of this database, and `writers` is a mode of its lock method,
    // with which those of writers conflict. It waits for transactions and takes no lock of the table.
    unsafe { raw::WaitForLockers(tag, writers, false) };
}

/// Whether another transaction, prepared ones included, holds the lock. Takes nothing, so that
/// asking never makes a claim beside it fail.
pub fn is_held_by_another(id: RecordId) -> bool {
    conflicts(&tag(id), MODE as u32)
}

/// Whether a session holds this database's lock against new connections, and so waits for us to
/// leave: DROP DATABASE, or CREATE DATABASE with this one as its template.
pub fn database_is_wanted() -> bool {
    // SAFETY: MyDatabaseId is set when the backend connects and never written after that.
    let database = unsafe { pg_sys::MyDatabaseId };
    // An object that is shared by all databases, in the mode that a session takes when it connects
    // (utils/init/postinit.c).
    !try_object(
        pg_sys::InvalidOid,
        pg_sys::DatabaseRelationId,
        database,
        pg_sys::RowExclusiveLock as pg_sys::LOCKMODE,
    )
}

/// Keeps an extension from being dropped until the transaction ends; false if another session is doing that.
pub fn keep_extension(extension: pg_sys::Oid) -> bool {
    // SAFETY: MyDatabaseId is set when the backend connects and never written after that.
    let database = unsafe { pg_sys::MyDatabaseId };
    try_object(
        database,
        pg_sys::ExtensionRelationId,
        extension,
        pg_sys::AccessShareLock as pg_sys::LOCKMODE,
    )
}

/// Takes the lock of an object that is no relation, if that is free, until the transaction ends.
fn try_object(
    database: pg_sys::Oid,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    mode: pg_sys::LOCKMODE,
) -> bool {
    let tag = pg_sys::LOCKTAG {
        locktag_field1: u32::from(database),
        locktag_field2: u32::from(class),
        locktag_field3: u32::from(object),
        locktag_field4: 0,
        locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    };
    // SAFETY: LockAcquire copies the tag, whose method is DEFAULT_LOCKMETHOD, and `mode` is one of that
    // method's; every caller is within a transaction, whose end releases the lock.
    let result = unsafe { pg_sys::LockAcquire(&tag, mode, false, true) };
    result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

/// Takes a lock until the (sub)transaction ends, if it is free.
pub fn try_hold(tag: &pg_sys::LOCKTAG, mode: u32) -> bool {
    let _owner = TransactionOwner::set();
    // SAFETY: LockAcquire copies the tag, whose method is USER_LOCKMETHOD, and `mode` is one of that method's; the
    // lock is released with the transaction or subtransaction.
    let result = unsafe { raw::LockAcquire(tag, mode as pg_sys::LOCKMODE, false, true) };
    result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

/// The same, for callers that catch its errors themselves.
///
/// # Safety
/// It may raise an error past Rust: call it as `pg::raw` says.
pub unsafe fn try_hold_raw(tag: &pg_sys::LOCKTAG, mode: u32) -> bool {
    // SAFETY: LockAcquire copies the tag, whose method is USER_LOCKMETHOD, and `mode` is one of that method's; the
    // lock is released with the transaction or subtransaction.
    let result = unsafe { raw::LockAcquire(tag, mode as pg_sys::LOCKMODE, false, true) };
    result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

/// The same, waiting: for callers that catch its errors themselves.
///
/// # Safety
/// It may raise an error past Rust: call it as `pg::raw` says.
pub unsafe fn hold_raw(tag: &pg_sys::LOCKTAG, mode: u32) {
    // SAFETY: LockAcquire copies the tag, whose method is USER_LOCKMETHOD, and `mode` is one of that method's.
    unsafe { raw::LockAcquire(tag, mode as pg_sys::LOCKMODE, false, false) };
}

/// The same, for as long as the call may wait; whether it came in time.
pub fn hold(tag: pg_sys::LOCKTAG, mode: u32) -> bool {
    if try_hold(&tag, mode) {
        return true;
    }
    let wait_for = || {
        // SAFETY: both callers catch the error, and the closure has nothing but a reference and a number.
        unsafe { hold_raw(&tag, mode) }
    };
    match limit::remaining() {
        Some(0) => false,
        Some(wait) => held_within(wait, wait_for).is_some(),
        None => {
            // The internal subtransaction hands the lock to the caller's when it ends.
            let held = subtransaction::call_undoing_error(wait_for);
            held.unwrap_or_else(|error| error.resume());
            true
        }
    }
}

/// Whether another transaction, prepared ones included, holds a lock with which this mode conflicts. Takes
/// nothing.
pub fn conflicts(tag: &pg_sys::LOCKTAG, mode: u32) -> bool {
    let mut count = 0;
    // SAFETY: GetLockConflicts reads the tag and writes the count. Its result is palloc'd, or on a standby
    // kept by lock.c for the next call; nothing here reads or frees it.
    unsafe { pg_sys::GetLockConflicts(tag, mode as pg_sys::LOCKMODE, &mut count) };
    count > 0
}

/// Locks a table until the (sub)transaction ends, for as long as the call may wait; whether that came in time.
pub fn relation(table: pg_sys::Oid, mode: pg_sys::LOCKMODE) -> bool {
    if try_relation(table, mode) {
        return true;
    }
    match limit::remaining() {
        Some(0) => false,
        Some(wait) => {
            // SAFETY: `held_within` catches the error, and the closure is Copy. LockRelationOid takes any OID.
            held_within(wait, || unsafe { raw::LockRelationOid(table, mode) }).is_some()
        }
        None => {
            let _owner = TransactionOwner::set();
            // SAFETY: LockRelationOid takes any OID, also of a relation that is gone.
            unsafe { pg_sys::LockRelationOid(table, mode) };
            true
        }
    }
}

/// Locks a table until the (sub)transaction ends, if no session has a lock that keeps this one out.
fn try_relation(table: pg_sys::Oid, mode: pg_sys::LOCKMODE) -> bool {
    let _owner = TransactionOwner::set();
    // SAFETY: ConditionalLockRelationOid takes any OID, also of a relation that is gone.
    unsafe { pg_sys::ConditionalLockRelationOid(table, mode) }
}

/// As [`try_relation`], for callers that catch its errors themselves: an error leaves the owner that was set
/// here, so they have called [`TransactionOwner::keep`] before.
///
/// # Safety
/// It may raise an error past Rust: call it as `pg::raw` says.
pub(super) unsafe fn try_relation_raw(table: pg_sys::Oid, mode: pg_sys::LOCKMODE) -> bool {
    // SAFETY: ConditionalLockRelationOid takes any OID, also of a relation that is gone. Both owners are current
    // ones of this subtransaction, which does not end within the call.
    unsafe {
        let before = pg_sys::CurrentResourceOwner;
        pg_sys::CurrentResourceOwner = pg_sys::CurTransactionResourceOwner;
        let is_locked = raw::ConditionalLockRelationOid(table, mode);
        pg_sys::CurrentResourceOwner = before;
        is_locked
    }
}

/// Gives the lock of a table back that was taken so.
pub fn release_relation(table: pg_sys::Oid, mode: pg_sys::LOCKMODE) {
    let _owner = TransactionOwner::set();
    // SAFETY: UnlockRelationOid takes any OID; a lock that is not held is a warning (lock.c).
    unsafe { pg_sys::UnlockRelationOid(table, mode) };
}

/// How many keys one transaction may hold by locks: its share of the lock table
/// (max_locks_per_transaction).
pub fn fair_share() -> usize {
    // SAFETY: max_locks_per_xact is a setting that only a restart changes.
    usize::try_from(unsafe { pg_sys::max_locks_per_xact }).unwrap_or(0)
}
