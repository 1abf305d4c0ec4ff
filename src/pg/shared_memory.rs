//! Memory that all processes of the server share, set aside when it starts.
//!
//! Only where the library is in `shared_preload_libraries`; elsewhere there is none, and a caller that
//! uses it does without ([`Region::get`] is `None`).
//!
//! pgrx has `PgAtomic` and `PgLwLock` for this. They do not fit: neither can be asked whether the
//! memory is there (`PgAtomic::get` panics where it is not), the initial value travels over the
//! stack by value, and `PgLwLock` takes a lock for each access, where a counter is to cost an
//! addition.

use pgrx::pg_guard;
use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use std::ffi::CStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

/// What may live in shared memory.
///
/// # Safety
/// All-zero bytes must be a valid value, the one that the server starts with. Whatever changes must
/// be an atomic, as other processes change it at any moment, and there must be no pointers in it.
pub unsafe trait Shareable: Sync {}

/// A value of its own in shared memory, named in a `static`.
pub struct Region<T> {
    /// Unique among all libraries of the server.
    name: &'static CStr,
    /// Null until the server has set it aside, and where it does not.
    memory: AtomicPtr<T>,
}

impl<T: Shareable> Region<T> {
    pub const fn new(name: &'static CStr) -> Self {
        Self { name, memory: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// The value; `None` where the library was not preloaded.
    #[inline]
    pub fn get(&self) -> Option<&'static T> {
        // SAFETY: null, or the memory that `attach` has filled with zeros, a value by `Shareable`; it stays
        // mapped as long as this process lives, and only atomics in it change.
        unsafe { self.memory.load(Ordering::Relaxed).as_ref() }
    }
}

/// A region of whatever type, as the hooks see it.
pub trait Piece: Sync {
    /// Asks for the memory.
    fn request(&self);

    /// Finds the memory that was asked for, and fills it with zeros if no other process has.
    ///
    /// # Safety
    /// The caller must hold AddinShmemInitLock.
    unsafe fn attach(&self);
}

impl<T: Shareable> Piece for Region<T> {
    fn request(&self) {
        // SAFETY: only `on_request` calls this, a shmem_request_hook, in which RequestAddinShmemSpace is
        // allowed (ipci.c).
        unsafe { pg_sys::RequestAddinShmemSpace(size_of::<T>()) };
    }

    unsafe fn attach(&self) {
        // What ShmemInitStruct gives begins at a cache line, which Postgres takes to be 128 bytes.
        const { assert!(align_of::<T>() <= 64) };
        let mut found = false;
        // SAFETY: ShmemInitStruct gives `size_of::<T>()` bytes, aligned to a cache line, as asserted. Zeros
        // are a value of T by `Shareable`; the caller holds AddinShmemInitLock, so no other process reads
        // the memory before it is filled.
        unsafe {
            let memory: *mut T =
                pg_sys::ShmemInitStruct(self.name.as_ptr(), size_of::<T>(), &mut found).cast();
            if !found {
                memory.write_bytes(0, 1);
            }
            self.memory.store(memory, Ordering::Relaxed);
        }
    }
}

static PIECES: OnceLock<&'static [&'static dyn Piece]> = OnceLock::new();
static PREVIOUS_REQUEST: OnceLock<pg_sys::shmem_request_hook_type> = OnceLock::new();
static PREVIOUS_STARTUP: OnceLock<pg_sys::shmem_startup_hook_type> = OnceLock::new();

/// Registers everything of ours that is shared; called once, from `_PG_init`. Too late for it in a
/// library that was not preloaded: then nothing happens, and every region stays empty.
pub fn init(pieces: &'static [&'static dyn Piece]) {
    // SAFETY: `_PG_init` calls this on the only thread; the hooks are called later, when all libraries are
    // loaded (postmaster.c), so they are not being read now.
    unsafe {
        if !pg_sys::process_shared_preload_libraries_in_progress || PIECES.set(pieces).is_err() {
            return;
        }
        PREVIOUS_REQUEST.get_or_init(|| pg_sys::shmem_request_hook);
        PREVIOUS_STARTUP.get_or_init(|| pg_sys::shmem_startup_hook);
        pg_sys::shmem_request_hook = Some(on_request);
        pg_sys::shmem_startup_hook = Some(on_startup);
    }
}

/// Whether the library was loaded when the server started.
pub fn preloaded() -> bool {
    PIECES.get().is_some()
}

fn pieces() -> impl Iterator<Item = &'static dyn Piece> {
    PIECES.get().into_iter().flat_map(|pieces| pieces.iter().copied())
}

#[pg_guard]
unsafe extern "C-unwind" fn on_request() {
    if let Some(Some(previous)) = PREVIOUS_REQUEST.get() {
        // SAFETY: the previous shmem_request_hook is called from ours, which Postgres calls at its place.
        unsafe { pg_guard_ffi_boundary(|| previous()) };
    }
    pieces().for_each(Piece::request);
}

/// Also called when the server starts anew after a crash, with memory that is new, too.
#[pg_guard]
unsafe extern "C-unwind" fn on_startup() {
    if let Some(Some(previous)) = PREVIOUS_STARTUP.get() {
        // SAFETY: the previous shmem_startup_hook is called from ours, which Postgres calls at its place.
        unsafe { pg_guard_ffi_boundary(|| previous()) };
    }
    // SAFETY: Postgres calls shmem_startup_hook after it has made shared memory and its locks (ipci.c).
    // `attach` runs between acquire and release; an error in it ends the start of the server.
    unsafe {
        let lock = addin_shmem_init_lock();
        pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        pieces().for_each(|piece| piece.attach());
        pg_sys::LWLockRelease(lock);
    }
}

/// `AddinShmemInitLock` of storage/lwlocknames.h, a macro: the same for all supported majors.
///
/// # Safety
/// Shared memory must exist.
unsafe fn addin_shmem_init_lock() -> *mut pg_sys::LWLock {
    const NUMBER: usize = 21;
    // SAFETY: shared memory exists, which this function demands, so the array is there; it begins with the
    // individual locks, by number, of which there are more than NUMBER.
    unsafe { &raw mut (*pg_sys::MainLWLockArray.add(NUMBER)).lock }
}
