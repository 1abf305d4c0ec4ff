//! Rust's memory, and what happens when there is no more of it.
//!
//! Where an allocation fails Rust ends the process, and when a backend ends like that Postgres
//! restarts all of them, which empties the unlogged table: one greedy session would cost all of them
//! their records. So there is a **reserve**. When the system has no memory left, small pieces come
//! out of that, and the call that borrowed fails with 53200 as soon as it is over (`error::catch`),
//! as it would have in Postgres' own allocator. What grows with the number of claims or the size of
//! an argument would not fit in: it asks first, with `try_reserve` or [`expect`].

use rules::error::{Code, Error, Result};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Enough for whatever a single call keeps in small pieces. Where it is not used it costs no memory.
const SIZE: usize = 256 * 1024;
const ALIGNMENT: usize = 64;

#[repr(align(64))]
struct Bytes(UnsafeCell<[u8; SIZE]>);

/// Pieces are handed out one after the other, and all at once come back when the last is freed.
struct Reserve {
    bytes: Bytes,
    /// Where the next piece begins.
    next: AtomicUsize,
    /// Pieces that are not freed yet.
    lent: AtomicUsize,
    /// Whether anything was lent since this was last asked.
    borrowed: AtomicBool,
}

// SAFETY: a process of Postgres has one thread. `lend` moves `next` past each piece, and `next` goes back
// only when the last piece was freed, so no two pieces overlap.
unsafe impl Sync for Reserve {}

static RESERVE: Reserve = Reserve {
    bytes: Bytes(UnsafeCell::new([0; SIZE])),
    next: AtomicUsize::new(0),
    lent: AtomicUsize::new(0),
    borrowed: AtomicBool::new(false),
};

impl Reserve {
    /// A piece; null if there is not enough left.
    #[cold]
    fn lend(&self, layout: Layout) -> *mut u8 {
        if layout.align() > ALIGNMENT {
            return std::ptr::null_mut();
        }
        let begin = |next: usize| next.next_multiple_of(layout.align());
        let end = |next: usize| begin(next).checked_add(layout.size()).filter(|end| *end <= SIZE);
        self.borrowed.store(true, Ordering::Relaxed);
        match self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, end) {
            Ok(next) => {
                self.lent.fetch_add(1, Ordering::Relaxed);
                // SAFETY: `fetch_update` succeeded, so `end` found the end of the piece within SIZE.
                unsafe { self.bytes.0.get().cast::<u8>().add(begin(next)) }
            }
            Err(_) => std::ptr::null_mut(),
        }
    }

    fn owns(&self, piece: *mut u8) -> bool {
        let first = self.bytes.0.get() as usize;
        (first..first + SIZE).contains(&(piece as usize))
    }

    #[cold]
    fn take_back(&self) {
        if self.lent.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.next.store(0, Ordering::Relaxed);
        }
    }
}

/// The system's allocator, with the reserve behind it.
struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

// SAFETY: what the system hands out goes back to the system, and a piece of the reserve to the
// reserve; which is which the address tells. Nothing here unwinds.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: GlobalAlloc demands a layout of non-zero size, and so does the system's.
        let memory = unsafe { System.alloc(layout) };
        if memory.is_null() { RESERVE.lend(layout) } else { memory }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if RESERVE.owns(memory) {
            RESERVE.take_back();
        } else {
            // SAFETY: what the reserve does not own came from the system; GlobalAlloc demands its layout.
            unsafe { System.dealloc(memory, layout) }
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !RESERVE.owns(memory) {
            // SAFETY: what the reserve does not own came from the system; GlobalAlloc demands its layout,
            // and a size that is not zero and fits the alignment.
            let moved = unsafe { System.realloc(memory, layout, size) };
            if !moved.is_null() {
                return moved;
            }
        }
        // SAFETY: GlobalAlloc demands a size that is not zero and fits the alignment. The old piece is still
        // lent, so the new one does not overlap it, and both have room for the smaller of the sizes.
        unsafe {
            let larger = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !larger.is_null() {
                std::ptr::copy_nonoverlapping(memory, larger, layout.size().min(size));
                self.dealloc(memory, layout);
            }
            larger
        }
    }
}

/// Whether memory ran out since this was last asked.
#[inline]
pub fn ran_out() -> bool {
    RESERVE.borrowed.load(Ordering::Relaxed) && RESERVE.borrowed.swap(false, Ordering::Relaxed)
}

/// More than there are caches.
const CACHES: usize = 4;

/// Empties a cache.
type Forget = fn();

thread_local! {
    static FORGET: Cell<[Option<Forget>; CACHES]> = const { Cell::new([None; CACHES]) };
}

/// Registers what empties a cache that lasts from call to call. It is called after memory ran out, as
/// such a cache must not keep a piece of the reserve.
pub fn on_exhaustion(forget: Forget) {
    let mut callbacks = FORGET.get();
    if let Some(free) = callbacks.iter_mut().find(|callback| callback.is_none()) {
        *free = Some(forget);
    }
    FORGET.set(callbacks);
}

/// Empties the caches.
pub fn forget_caches() {
    for forget in FORGET.get().into_iter().flatten() {
        forget();
    }
}

/// Refuses with 53200 if so much memory cannot be had, before something asks for it that could not
/// be told so.
pub fn expect(bytes: usize) -> Result<()> {
    Vec::<u8>::new().try_reserve_exact(bytes).map_err(|_| out_of_memory())
}

/// 53200: memory ran out, and nothing was done.
pub fn out_of_memory() -> Error {
    Error::new(Code::OutOfMemory, "out of memory")
        .detail("The operating system gave this session no more memory.")
        .hint("Do less in one transaction, or give the server more memory.")
}

/// Gives free memory back to the system. The allocator does that by itself at the end of the heap alone, where one small
/// piece that stays keeps all that lies before it.
pub fn give_back_what_is_free() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim touches free memory alone, takes the allocator's own locks, and any thread may call it.
    unsafe {
        libc::malloc_trim(0);
    }
}
