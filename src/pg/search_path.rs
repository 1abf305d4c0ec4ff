//! The search_path as it is resolved: which schemas, in which order, for this role.

use pgrx::pg_sys;
use std::ptr::NonNull;

#[cfg(any(feature = "pg15", feature = "pg16"))]
type Resolved = pg_sys::OverrideSearchPath;
#[cfg(not(any(feature = "pg15", feature = "pg16")))]
type Resolved = pg_sys::SearchPathMatcher;

/// What the search_path was when a name was looked up.
#[derive(Clone, Copy)]
pub struct SearchPath(NonNull<Resolved>);

impl SearchPath {
    /// The search_path of this moment, kept in `memory`.
    ///
    /// # Safety
    /// `memory` must be a memory context that lives as long as what is returned is asked.
    pub unsafe fn remember(memory: pg_sys::MemoryContext) -> Self {
        // SAFETY: `memory` exists; the function allocates there and returns no null.
        unsafe {
            #[cfg(any(feature = "pg15", feature = "pg16"))]
            let resolved = pg_sys::GetOverrideSearchPath(memory);
            #[cfg(not(any(feature = "pg15", feature = "pg16")))]
            let resolved = pg_sys::GetSearchPathMatcher(memory);
            Self(NonNull::new_unchecked(resolved))
        }
    }

    /// Whether a name would be looked up in the same schemas now.
    pub fn is_current(self) -> bool {
        // SAFETY: `remember` was promised that the context lives.
        unsafe {
            #[cfg(any(feature = "pg15", feature = "pg16"))]
            return pg_sys::OverrideSearchPathMatchesCurrent(self.0.as_ptr());
            #[cfg(not(any(feature = "pg15", feature = "pg16")))]
            return pg_sys::SearchPathMatchesCurrentEnvironment(self.0.as_ptr());
        }
    }
}
