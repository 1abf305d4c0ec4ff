//! Lists of Postgres (nodes/pg_list.h), read in place.

use pgrx::pg_sys::List;
use std::ffi::c_int;

/// How many elements a list has; the empty one is null.
///
/// # Safety
/// `list` must be null or a list.
pub unsafe fn length(list: *const List) -> usize {
    // SAFETY: a list that is not null has a length, which is not negative.
    unsafe { if list.is_null() { 0 } else { (*list).length as usize } }
}

/// An element of a list of pointers.
///
/// # Safety
/// `list` must be a list of pointers to `T`, and longer than `at`.
pub unsafe fn pointer<T>(list: *const List, at: usize) -> *mut T {
    // SAFETY: the list has such an element, a pointer, which this function demands.
    unsafe { (*(*list).elements.add(at)).ptr_value.cast() }
}

/// An element of a list of numbers.
///
/// # Safety
/// `list` must be a list of integers, and longer than `at`.
pub unsafe fn number(list: *const List, at: usize) -> c_int {
    // SAFETY: the list has such an element, an integer, which this function demands.
    unsafe { (*(*list).elements.add(at)).int_value }
}
