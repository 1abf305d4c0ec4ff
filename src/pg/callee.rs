//! A function of the user's that is called again and again: what Postgres looks up for a call is kept.

use crate::pg::raw;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use std::cell::Cell;
use std::ptr::NonNull;

/// A memory context that lasts until it is dropped.
pub struct Memory(pg_sys::MemoryContext);

impl Memory {
    pub fn new() -> Self {
        // SAFETY: the parent is never deleted; the name is a constant, as the function demands; the
        // sizes are ALLOCSET_SMALL_SIZES (utils/memutils.h).
        Self(unsafe {
            pg_sys::AllocSetContextCreateInternal(
                pg_sys::TopMemoryContext,
                c"pg_idempotent handler".as_ptr(),
                0,
                1024,
                8192,
            )
        })
    }

    pub fn context(&self) -> pg_sys::MemoryContext {
        self.0
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: this value alone owns the context, and nothing made it the current one.
        unsafe { pg_sys::MemoryContextDelete(self.0) };
    }
}

/// What `fmgr_info` looked up of a function, and what its language keeps there from call to call.
pub struct Callee {
    info: NonNull<pg_sys::FmgrInfo>,
    /// A call is under way, or one has raised an error: what the language keeps may be half made.
    taken: Cell<bool>,
}

impl Callee {
    /// `None` for a language that does not say that it can live with it: a function in SQL ties what
    /// it keeps to a transaction.
    ///
    /// # Safety
    /// The function must exist, and `memory` must live as long as what is returned.
    pub unsafe fn new(function: pg_sys::Oid, memory: pg_sys::MemoryContext) -> Option<Self> {
        if !language(function).is_some_and(keeps) {
            return None;
        }
        // SAFETY: zeroed memory of the right size in a context that lives; fmgr_info_cxt fills it
        // in, and has the function's language allocate in the same context.
        unsafe {
            let size = size_of::<pg_sys::FmgrInfo>();
            let info = pg_sys::MemoryContextAllocZero(memory, size).cast::<pg_sys::FmgrInfo>();
            pg_sys::fmgr_info_cxt(function, info, memory);
            Some(Self { info: NonNull::new_unchecked(info), taken: Cell::new(false) })
        }
    }

    /// For one call; `None` while another is under way, as a handler may run itself for another key,
    /// and for ever after one that did not give it back.
    pub fn take(&self) -> Option<NonNull<pg_sys::FmgrInfo>> {
        (!self.taken.replace(true)).then_some(self.info)
    }

    /// After a call that raised no error.
    pub fn give_back(&self) {
        self.taken.set(false);
    }

    pub fn is_taken(&self) -> bool {
        self.taken.get()
    }
}

fn language(function: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: a syscache look-up within a transaction; a row of pg_proc has a language, and the
    // tuple is released after it was read.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::PROCOID as i32;
        let row = pg_sys::SearchSysCache1(cache, Datum::from(function));
        if row.is_null() {
            return None;
        }
        let mut is_null = false;
        let column = pg_sys::Anum_pg_proc_prolang as pg_sys::AttrNumber;
        let language = pg_sys::SysCacheGetAttr(cache, row, column, &mut is_null);
        pg_sys::ReleaseSysCache(row);
        Some(pg_sys::Oid::from(language.value() as u32))
    }
}

/// `LANGUAGE internal` and `C`, as in pg_language.dat, and PL/pgSQL: their functions are called so by
/// indexes and by the type cache, too.
fn keeps(language: pg_sys::Oid) -> bool {
    const INTERNAL: u32 = 12;
    const C: u32 = 13;
    // SAFETY: a syscache look-up by a constant name within a transaction.
    let plpgsql = unsafe { pg_sys::get_language_oid(c"plpgsql".as_ptr(), true) };
    matches!(u32::from(language), INTERNAL | C) || language == plpgsql
}

/// `FunctionCall1` (fmgr.h) that lets null through both ways. Nothing here has a destructor: an
/// error of the function jumps over this frame.
///
/// # Safety
/// As for every function in [`raw`]. `function` must exist, and `kept`, where there is one, be what
/// fmgr looked up of it.
pub unsafe fn call(
    function: pg_sys::Oid,
    kept: Option<NonNull<pg_sys::FmgrInfo>>,
    argument: Option<Datum>,
) -> Option<Datum> {
    #[repr(C)]
    struct OneArgument {
        base: pg_sys::FunctionCallInfoBaseData,
        argument: pg_sys::NullableDatum,
    }
    // SAFETY: zeroed call data is what InitFunctionCallInfoData begins with; the argument follows
    // the base, as LOCAL_FCINFO lays it out. fmgr_info takes care of SECURITY DEFINER and SET.
    unsafe {
        raw::invoke_execute_hook(function);
        let mut fresh: pg_sys::FmgrInfo = std::mem::zeroed();
        let info = match kept {
            Some(kept) => kept.as_ptr(),
            None => {
                raw::fmgr_info(function, &mut fresh);
                &raw mut fresh
            }
        };
        let mut call: OneArgument = std::mem::zeroed();
        call.base.flinfo = info;
        call.base.nargs = 1;
        call.argument.value = argument.unwrap_or(Datum::from(0));
        call.argument.isnull = argument.is_none();
        // fmgr_info fills it in or raises an error.
        let address = (*info).fn_addr.unwrap_unchecked();
        let result = address(&raw mut call.base);
        (!call.base.isnull).then_some(result)
    }
}
